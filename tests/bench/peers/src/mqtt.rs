//! The few packets of MQTT 3.1.1 that a load client and a subscriber need.

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PUBLISH_QOS1: u8 = 0x32;
const PUBACK: [u8; 2] = [0x40, 2];
/// Length of a PUBACK.
pub(crate) const PUBACK_BYTES: usize = 4;

/// Messages as packets, one after the other, that need a packet id only.
pub(crate) struct Prepared {
    bytes: Vec<u8>,
    /// Where each packet begins, and where its id stands.
    packets: Vec<(usize, usize)>,
}

impl Prepared {
    pub(crate) fn new<'m>(messages: impl IntoIterator<Item = (&'m str, &'m [u8])>) -> Self {
        let (mut bytes, mut packets) = (Vec::new(), Vec::new());
        for (topic, payload) in messages {
            let start = bytes.len();
            bytes.push(PUBLISH_QOS1);
            write_length(2 + topic.len() + 2 + payload.len(), &mut bytes);
            write_text(topic, &mut bytes);
            packets.push((start, bytes.len()));
            bytes.extend([0, 0]);
            bytes.extend(payload);
        }
        Self { bytes, packets }
    }

    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Appends packet `index` under an id.
    pub(crate) fn write(&self, index: usize, id: u16, out: &mut Vec<u8>) {
        let (start, id_at) = self.packets[index];
        let end = self.packets.get(index + 1).map_or(self.bytes.len(), |(next, _)| *next);
        let at = out.len() + id_at - start;
        out.extend_from_slice(&self.bytes[start..end]);
        out[at..at + 2].copy_from_slice(&id.to_be_bytes());
    }
}

fn write_length(mut length: usize, out: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(length % 128).expect("below 128");
        length /= 128;
        out.push(if length > 0 { low | 0x80 } else { low });
        if length == 0 {
            return;
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("names are short");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

/// Connects with a clean session and without keep-alive.
pub(crate) async fn connect(address: &str, client: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await.with_context(|| address.to_owned())?;
    stream.set_nodelay(true)?;
    let mut packet = vec![0x10];
    write_length(10 + 2 + client.len(), &mut packet);
    write_text("MQTT", &mut packet);
    packet.extend([4, 2, 0, 0]);
    write_text(client, &mut packet);
    stream.write_all(&packet).await?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.context("no CONNACK")?;
    ensure!(answer[3] == 0, "the broker refused client {client} with code {}", answer[3]);
    Ok(stream)
}

/// Subscribes to everything at QoS 1.
pub(crate) async fn subscribe(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(&[0x82, 6, 0, 1, 0, 1, b'#', 1]).await?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.context("no SUBACK")?;
    ensure!(answer[4] <= 1, "the broker refused the subscription");
    Ok(())
}

/// One whole packet at the front of some bytes: its length in all, and the id if it is a PUBLISH.
pub(crate) fn packet(bytes: &[u8]) -> Option<(usize, Option<[u8; 2]>)> {
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let packet = bytes.get(..at + length)?;
    let id = (packet[0] >> 4 == 3 && packet[0] & 6 != 0).then(|| {
        let topic = usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
        [packet[at + 2 + topic], packet[at + 3 + topic]]
    });
    Some((at + length, id))
}

pub(crate) fn write_puback(id: [u8; 2], out: &mut Vec<u8>) {
    out.extend(PUBACK);
    out.extend(id);
}
