//! A session without a connection, at the store of the others.

use super::{Memory, SPOOL, STREAM};
use bytes::Bytes;
use guan_link::driver::{CarriedFault, CarriedOutcome, CarriedRefusal, CarriedSession};
use guan_link::{
    BATCH_BYTES_MAX, BoxFrame, Cursor, EncodedBatch, Hello, Item, Offer, PeerFault, StreamRange,
    VERSIONS,
};
use guan_model::{BatchSeq, BoxId, ContractId, DatasetId, Digest};

fn batch(seq: u64, length: usize) -> BoxFrame {
    BoxFrame::Item(
        STREAM,
        Item::Batch(EncodedBatch {
            seq: BatchSeq(seq),
            dataset: DatasetId::parse("d").unwrap(),
            contract: ContractId::parse("C").unwrap(),
            rows: 1,
            digest: Digest([0; 32]),
            bytes: Bytes::from(vec![0; length]),
        }),
    )
}

async fn take(
    store: &Memory,
    frames: impl IntoIterator<Item = BoxFrame>,
) -> Result<CarriedOutcome, CarriedFault> {
    let range = StreamRange { id: STREAM, oldest_unreleased: BatchSeq(1), newest: BatchSeq(99) };
    let offer = Offer::new(SPOOL, vec![range]).unwrap();
    let mut session = CarriedSession::new(store.clone(), BoxId::parse("box-1").unwrap());
    session.handle_frame(BoxFrame::Hello(Hello { versions: VERSIONS, offer })).await?;
    for frame in frames {
        session.handle_frame(frame).await?;
    }
    session.finish().await
}

/// Ten times the window, in the longest batches.
#[tokio::test]
async fn a_file_larger_than_the_credit_is_taken_once() {
    let store = Memory::default();
    let frames = || (1..=20).map(|seq| batch(seq, BATCH_BYTES_MAX));
    let outcome = take(&store, frames()).await.unwrap();
    assert_eq!((outcome.items_stored, outcome.duplicates), (20, 0));
    // Only of what was offered.
    assert_eq!(outcome.cursors, [Cursor { stream: STREAM, through: BatchSeq(20) }]);
    let again = take(&store, frames()).await.unwrap();
    assert_eq!((again.items_stored, again.duplicates, store.through()), (0, 20, BatchSeq(20)));
    let more = take(&store, (19..=22).map(|seq| batch(seq, 1))).await.unwrap();
    assert_eq!((more.items_stored, more.duplicates, store.through()), (2, 2, BatchSeq(22)));
}

#[tokio::test]
async fn holes_refusals_and_tables_that_are_none_are_told() {
    let store = Memory { refuse: Some(BatchSeq(2)), refuses_tables: true, ..Memory::default() };
    let fault = take(&store, [batch(3, 1)]).await.unwrap_err();
    assert!(fault.to_string().contains("bring the earlier file first"), "{fault}");
    let table = BoxFrame::Descriptors(Bytes::from_static(b"x"));
    let fault = take(&store, [table]).await.unwrap_err();
    assert!(matches!(fault, CarriedFault::Peer(PeerFault::Misbehaved(_))), "{fault}");
    let outcome = take(&store, (1..=4).map(|seq| batch(seq, 1))).await.unwrap();
    let refused = CarriedRefusal { stream: STREAM, seq: BatchSeq(2), text: "no".into() };
    assert_eq!((outcome.refused, outcome.items_stored), (vec![refused], 1));
    assert_eq!(store.through(), BatchSeq(1), "nothing after it is taken");
}
