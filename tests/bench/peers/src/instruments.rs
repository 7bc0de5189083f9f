//! The vessel's instruments as numbers: the NMEA 2000 messages of the bus, decoded into one JSON reading
//! each, as a gateway that knows the bus would publish them. Several slow series side by side.

use guan_demo::data::Dataset;

/// One quantity in a message: where its two bytes stand, and what one count is.
struct Quantity {
    pgn: &'static str,
    name: &'static str,
    at: usize,
    is_signed: bool,
    /// Decimals of a count in the unit: 4 means that it is 0.0001.
    decimals: usize,
}

const fn quantity(
    pgn: &'static str,
    name: &'static str,
    at: usize,
    is_signed: bool,
    decimals: usize,
) -> Quantity {
    Quantity { pgn, name, at, is_signed, decimals }
}

/// Radians and metres a second.
const QUANTITIES: [Quantity; 8] = [
    quantity("127250", "heading", 1, false, 4),
    quantity("127257", "yaw", 1, true, 4),
    quantity("127257", "pitch", 3, true, 4),
    quantity("127257", "roll", 5, true, 4),
    quantity("129026", "course", 2, false, 4),
    quantity("129026", "speed", 4, false, 2),
    quantity("130306", "wind-speed", 1, false, 2),
    quantity("130306", "wind-angle", 3, false, 4),
];

/// Names of all series.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    QUANTITIES.iter().map(|quantity| quantity.name)
}

/// Topic and payload of each reading, in the order of the bus.
pub(crate) fn readings(bus: &Dataset) -> Vec<(String, Vec<u8>)> {
    let mut readings = Vec::new();
    for message in &bus.messages {
        let pgn = message.topic.split('/').nth(2).unwrap_or_default();
        let payload = std::str::from_utf8(&message.payload).expect("the data set is JSON");
        let time = payload.split('"').nth(3).expect("the time comes first");
        let bytes = &message.reading.value;
        for quantity in QUANTITIES.iter().filter(|quantity| quantity.pgn == pgn) {
            let Some([low, high]) = bytes.get(quantity.at..quantity.at + 2) else { continue };
            let count = u16::from_le_bytes([*low, *high]);
            // Beyond these an instrument says that it does not know.
            if (!quantity.is_signed && count >= 0xfffd)
                || (quantity.is_signed && (0x7ffd..=0x7fff).contains(&count))
            {
                continue;
            }
            let count =
                if quantity.is_signed { f64::from(count.cast_signed()) } else { f64::from(count) };
            let power = i32::try_from(quantity.decimals).expect("a few decimals");
            let value = count / 10_f64.powi(power);
            let payload = format!(
                r#"{{"t":"{time}","asset":"vessel-1","sensor":"{}","value":{value:.*},"quality":"good"}}"#,
                quantity.name, quantity.decimals
            );
            readings.push((format!("vessel/instruments/{}", quantity.name), payload.into_bytes()));
        }
    }
    readings
}
