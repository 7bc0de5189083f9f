//! Touch the world: the MQTT listener and the MQTT client.
#![forbid(unsafe_code)]
