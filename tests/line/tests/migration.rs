//! A box whose address changes keeps its connection: no handshake, nothing lost, the same secrets.

#![expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use guan_line::{BOX, Pair, Shape, Tls, in_virtual_time};
use guan_link::driver::LinkTuning;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

const SHAPE: Shape = Shape {
    rate_bits_per_s: 1_000_000,
    delay: Duration::from_millis(50),
    jitter: Duration::ZERO,
    loss_permille: 20,
    queue_bytes: 64_000,
};
const PIECE: usize = 16 << 10;
const PIECES: usize = 64;

fn exported(connection: &quinn::Connection) -> [u8; 32] {
    let mut bytes = [0; 32];
    connection.export_keying_material(&mut bytes, b"EXPORTER-test", &[]).unwrap();
    bytes
}

/// Sends numbered pieces, moves to another address after some of them, and reads all on the other side.
async fn move_to(address: SocketAddr) {
    let pair = Pair::new(&Tls::generate(), LinkTuning::default(), SHAPE, 3);
    let (box_side, space_side) = pair.connect().await;
    let (before, secret) = (space_side.remote_address(), exported(&box_side));
    assert_eq!(before, BOX);
    let sending = async {
        let (mut out, _input) = box_side.open_bi().await.unwrap();
        for number in 0..PIECES {
            if number == PIECES / 4 {
                pair.rebind(address);
            }
            out.write_all(&vec![u8::try_from(number).unwrap(); PIECE]).await.unwrap();
        }
        out.finish().unwrap();
        out.stopped().await.unwrap();
    };
    let reading = async {
        let (_out, mut input) = space_side.accept_bi().await.unwrap();
        input.read_to_end(PIECE * PIECES).await.unwrap()
    };
    let ((), bytes) = tokio::join!(sending, reading);
    for (number, piece) in bytes.chunks(PIECE).enumerate() {
        assert!(piece.iter().all(|byte| usize::from(*byte) == number), "piece {number}");
    }
    assert_eq!(bytes.len(), PIECE * PIECES);
    assert_eq!(space_side.remote_address(), address);
    // What evidence is bound to is of the TLS session, not of the path.
    assert_eq!((exported(&box_side), exported(&space_side)), (secret, secret));
    assert!(box_side.close_reason().is_none() && space_side.close_reason().is_none());
}

#[test]
fn another_port_of_the_same_host() {
    in_virtual_time(move_to(SocketAddr::new(BOX.ip(), BOX.port() + 1)));
}

#[test]
fn another_network() {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 168, 7, 9)), 6000);
    in_virtual_time(move_to(address));
}

#[test]
fn a_path_that_is_gone_for_a_while() {
    in_virtual_time(async {
        let pair = Pair::new(&Tls::generate(), LinkTuning::default(), SHAPE, 4);
        let (box_side, space_side) = pair.connect().await;
        let (mut out, _input) = box_side.open_bi().await.unwrap();
        let writing = async {
            out.write_all(&vec![1; PIECE]).await.unwrap();
            pair.net.set_shape(Shape { loss_permille: 1000, ..SHAPE });
            tokio::time::sleep(Duration::from_secs(12)).await;
            out.write_all(&vec![2; PIECE]).await.unwrap();
            pair.net.set_shape(SHAPE);
            out.finish().unwrap();
            out.stopped().await.unwrap();
        };
        let reading = async {
            let (_out, mut input) = space_side.accept_bi().await.unwrap();
            input.read_to_end(2 * PIECE).await.unwrap().len()
        };
        let ((), count) = tokio::join!(writing, reading);
        assert_eq!(count, 2 * PIECE);
    });
}
