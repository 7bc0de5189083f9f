//! Between the link's sessions and the store's task.

use crate::negotiating::Mail;
use crate::retention::Retention;
use crate::runner::{QUEUED_BYTES_MAX, Request, StoreStatus};
use crate::sets::Sets;
use crate::store::{Announcement, Delivery, Judged, Refused, StoredGap};
use bytes::Bytes;
use guan_link::driver::{Inbox, InboxFault, Receipt, Refusal};
use guan_link::text::{CheckpointText, ReportJson};
use guan_link::{Cursor, EncodedBatch, Item, Letter, Offer, RefuseReason};
use guan_model::{BoxId, Digest, SpoolId, StreamId, WallTime};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// Most boxes whose last report is kept.
const REPORTS_MAX: usize = 4096;

/// Last words of each box about itself, as JSON.
pub type Reports = BTreeMap<BoxId, String>;

/// Handed to the link; clones share the queue.
#[derive(Clone)]
pub struct StoreInbox {
    requests: mpsc::Sender<Request>,
    room: Arc<Semaphore>,
    status: watch::Receiver<StoreStatus>,
    reports: Arc<Mutex<Reports>>,
    sets: Option<Sets>,
    rosters: Option<watch::Receiver<u64>>,
    retention: Option<Retention>,
    mail: Option<Mail>,
    clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
}

impl StoreInbox {
    pub fn new(
        requests: mpsc::Sender<Request>,
        status: watch::Receiver<StoreStatus>,
        clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    ) -> Self {
        let room = Arc::new(Semaphore::new(QUEUED_BYTES_MAX));
        let reports = Arc::default();
        let (sets, rosters, retention, mail) = (None, None, None, None);
        Self { requests, room, status, reports, sets, rosters, retention, mail, clock }
    }

    /// Boxes are told which contracts stand; `changed` says when to look again.
    #[must_use]
    pub fn with_sets(self, sets: Sets, changed: watch::Receiver<u64>) -> Self {
        Self { sets: Some(sets), rosters: Some(changed), ..self }
    }

    /// Letters go to and come from whoever negotiates.
    #[must_use]
    pub fn with_mail(self, mail: Mail) -> Self {
        Self { mail: Some(mail), ..self }
    }

    /// What contracts want deleted is enciphered before it is stored.
    #[must_use]
    pub fn with_retention(self, retention: Retention) -> Self {
        Self { retention: Some(retention), ..self }
    }

    /// What the boxes last said about themselves.
    pub fn reports(&self) -> Reports {
        self.reports.lock().expect("nobody panics while holding it").clone()
    }

    async fn send(&self, request: Request) -> Result<(), InboxFault> {
        self.requests.send(request).await.map_err(|_| gone())
    }

    /// The batch is what it says, and its points are known.
    fn judge(&self, delivery: Delivery) -> Result<Judged, Refused> {
        let judged = Judged::judge(delivery)?;
        let digest = judged.descriptors();
        match self.status.borrow().tables.contains(&digest) {
            true => Ok(judged),
            false => Err(Refused::Descriptors { digest }),
        }
    }

    fn delivery(
        &self,
        peer: &BoxId,
        spool: SpoolId,
        stream: StreamId,
        batch: &EncodedBatch,
    ) -> Delivery {
        Delivery {
            box_id: peer.clone(),
            spool,
            stream,
            seq: batch.seq,
            received: (self.clock)(),
            dataset: batch.dataset.clone(),
            contract: batch.contract.clone(),
            rows: batch.rows,
            digest: batch.digest,
            bytes: batch.bytes.clone(),
        }
    }
}

/// The store's task has ended or dropped the question, because its disk failed.
fn gone() -> InboxFault {
    InboxFault { detail: "it does not answer".to_owned() }
}

fn reason(refused: &Refused) -> RefuseReason {
    match refused {
        Refused::Decode(_) => RefuseReason::Undecodable,
        Refused::Digest { .. } | Refused::Header { .. } => RefuseReason::BadDigest,
        Refused::Descriptors { .. } => RefuseReason::UnknownDataset,
        Refused::Hole { .. } | Refused::Cursors => RefuseReason::Busy,
    }
}

impl Inbox for StoreInbox {
    async fn cursors(&self, peer: &BoxId, offer: &Offer) -> Result<Vec<Cursor>, InboxFault> {
        let (reply, answer) = oneshot::channel();
        let (box_id, spool) = (peer.clone(), offer.spool());
        self.send(Request::Cursors { box_id, spool, reply }).await?;
        let cursors = answer.await.map_err(|_| gone())?;
        Ok(cursors.into_iter().map(|(stream, through)| Cursor { stream, through }).collect())
    }

    async fn describe(&self, peer: &BoxId, table: Bytes) -> Result<Result<(), String>, InboxFault> {
        let table = match guan_codec::unpack_table(&table) {
            Ok(table) => table,
            Err(fault) => return Ok(Err(fault.to_string())),
        };
        let announcement = Announcement { box_id: peer.clone(), table };
        if self.status.borrow().tables.contains(&announcement.digest()) {
            return Ok(Ok(()));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Describe { announcement, reply }).await?;
        answer.await.map(Ok).map_err(|_| gone())
    }

    async fn checkpoint(
        &self,
        peer: &BoxId,
        text: CheckpointText,
    ) -> Result<Result<u64, String>, InboxFault> {
        let (reply, answer) = oneshot::channel();
        let (box_id, text) = (peer.clone(), text.to_string());
        self.send(Request::Checkpoint { box_id, text, reply }).await?;
        answer.await.map_err(|_| gone())
    }

    fn roster(&self, peer: &BoxId) -> Bytes {
        let Some(sets) = &self.sets else { return Bytes::new() };
        let told = sets.current(peer, (self.clock)()).and_then(|file| {
            // A batch on its terms may come right after, and must not be stored in the clear. After the
            // file: the duties are at least as new.
            self.retention.iter().try_for_each(|one| one.read_duties_of(sets, peer))?;
            Ok(file)
        });
        match told {
            Ok(file) => file.map_or_else(Bytes::new, Bytes::from),
            Err(fault) => {
                let text = guan_link::driver::describe(&fault);
                tracing::error!(box_id = %peer, fault = %text, "a contract set cannot be told");
                Bytes::new()
            }
        }
    }

    fn rosters_changed(&self) -> Option<watch::Receiver<u64>> {
        self.rosters.clone()
    }

    fn letters(&self, peer: &BoxId) -> Option<mpsc::Receiver<Letter>> {
        self.mail.as_ref().map(|mail| mail.begin(peer))
    }

    async fn letter(&self, peer: &BoxId, letter: Letter) -> Result<(), String> {
        match &self.mail {
            Some(mail) => mail.receive(peer, letter).await,
            None => Err("nobody reads letters here".to_owned()),
        }
    }

    fn contract(&self, peer: &BoxId, digest: &Digest) -> Option<Bytes> {
        let sets = self.sets.as_ref()?;
        let roster = sets.roster(peer).ok()??;
        let is_listed = roster.entries.iter().any(|entry| entry.digest == *digest);
        let document = is_listed.then(|| sets.document(peer, digest));
        document?.ok()?.map(Bytes::from)
    }

    fn report(&self, peer: &BoxId, json: ReportJson) {
        let mut reports = self.reports.lock().expect("nobody panics while holding it");
        if reports.len() < REPORTS_MAX || reports.contains_key(peer) {
            reports.insert(peer.clone(), json.to_string());
        }
    }

    async fn store(
        &self,
        peer: &BoxId,
        spool: SpoolId,
        stream: StreamId,
        item: Item,
        receipt: Receipt,
    ) -> Result<Result<(), Refusal>, InboxFault> {
        let request = match item {
            Item::Gap(gap) => {
                let gap = StoredGap {
                    box_id: peer.clone(),
                    spool,
                    stream,
                    from: gap.from,
                    through: gap.through,
                    rows: gap.rows,
                    reason: gap.reason,
                };
                Request::Gap { gap, receipt }
            }
            Item::Batch(batch) => {
                let bytes = u32::try_from(batch.bytes.len()).expect("the link bounds batches");
                let room = self.room.clone().acquire_many_owned(bytes).await;
                let room = room.expect("the semaphore is never closed");
                match self.judge(self.delivery(peer, spool, stream, &batch)) {
                    Ok(mut judged) => {
                        if let Some(retention) = &self.retention {
                            judged.seal(retention).map_err(|fault| InboxFault {
                                detail: guan_link::driver::describe(&fault),
                            })?;
                        }
                        Request::Batch { judged: Box::new(judged), receipt, room }
                    }
                    Err(refused) => {
                        return Ok(Err(receipt.refuse(reason(&refused), refused.to_string())));
                    }
                }
            }
        };
        self.send(request).await.map(Ok)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parties::Signed;
    use crate::store::tests::delivery_under;
    use guan_identity::LogKeyFile;
    use serde_json::json;

    /// A box that connects again is told of a set that the watch of sets has not seen yet.
    #[test]
    fn a_box_is_told_of_no_set_whose_duties_are_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let (key, _) = LogKeyFile::generate("space-1").unwrap();
        let sets = Sets::open(folder.path(), "space-1", Arc::new(key)).unwrap();
        let retention = Retention::open(folder.path()).unwrap();
        retention.read_duties(&sets);
        let (requests, _) = mpsc::channel(1);
        let (_, changed) = watch::channel(0);
        let (_, status) = watch::channel(StoreStatus::default());
        let now = || WallTime::from_seconds(1_800_000_000);
        let inbox = StoreInbox::new(requests, status, Arc::new(now));
        let inbox = inbox.with_sets(sets.clone(), changed).with_retention(retention.clone());

        let after = json!({"leftOperand": "after", "operator": "eq", "rightOperand": "P3D"});
        let object = json!({
            "@type": "Agreement", "@id": "urn:contract:C-1", "profile": "urn:guankou:odrl:1",
            "version": 1, "conflict": "prohibit", "assigner": "a", "assignee": "b", "target": ["d"],
            "permission":
                [{"action": "deliver", "duty": [{"action": "delete", "refinement": after}]}],
            "validity": {"notBefore": "2026-01-01T00:00:00Z", "notAfter": "2030-01-01T00:00:00Z"},
        });
        let box_id = BoxId::parse("box-1").unwrap();
        sets.issue(&box_id, &Signed::unseen(object.to_string().as_bytes()), now()).unwrap();
        assert!(!inbox.roster(&box_id).is_empty());
        let mut delivery = delivery_under("C-1", 1);
        guan_codec::decode(&delivery.bytes).unwrap();
        retention.seal(&mut delivery).unwrap();
        guan_codec::decode(&delivery.bytes).expect_err("it is enciphered");
    }
}
