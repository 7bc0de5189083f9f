//! What waits for the next commit.

use super::{
    BATCH_VALUE_BYTES_MAX, PENDING_PUBLICATIONS_MAX, PENDING_VALUE_BYTES_MAX, Publication,
};
use guan_model::{DatasetId, DescriptorTable, PointId, Row, Value};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// An answer that is due once the commit is through.
#[derive(Debug)]
pub(super) enum Answer<T> {
    Durable(T),
    Session { client: Arc<str>, present: bool, token: T },
}

/// Publications and answers since the last commit.
#[derive(Debug)]
pub(super) struct Pending<T> {
    publications: Vec<Publication<T>>,
    answers: Vec<Answer<T>>,
    rows: usize,
    /// Of texts and bytes; numbers are counted by their rows.
    value_bytes: usize,
    since: Option<Duration>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        let (publications, answers) = (Vec::new(), Vec::new());
        Self { publications, answers, rows: 0, value_bytes: 0, since: None }
    }
}

/// Memory of a value beside its row.
fn value_bytes(row: &Row) -> usize {
    match &row.value {
        Some(Value::Text(text)) => text.len(),
        Some(Value::Bytes(bytes)) => bytes.len(),
        _ => 0,
    }
}

/// Takes the rows of one batch off the front: as many as it may have, or as long as their values leave it
/// short enough for spool and link, whatever they are.
pub(super) fn take_batch(rows: &mut VecDeque<Row>, rows_max: usize) -> Vec<Row> {
    let (mut count, mut bytes) = (0, 0);
    for row in rows.iter().take(rows_max) {
        bytes += value_bytes(row);
        if count > 0 && bytes > BATCH_VALUE_BYTES_MAX {
            break;
        }
        count += 1;
    }
    rows.drain(..count).collect()
}

impl<T> Pending<T> {
    pub(super) fn push(&mut self, at: Duration, publication: Publication<T>) {
        self.rows += publication.rows.len();
        self.value_bytes += publication.rows.iter().map(value_bytes).sum::<usize>();
        self.publications.push(publication);
        self.since.get_or_insert(at);
    }

    pub(super) fn answer(&mut self, at: Duration, answer: Answer<T>) {
        self.answers.push(answer);
        self.since.get_or_insert(at);
    }

    /// When the first of them came, since boot.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    pub(super) fn is_full(&self, rows_max: usize) -> bool {
        self.rows >= rows_max
            || self.value_bytes >= PENDING_VALUE_BYTES_MAX
            || self.publications.len() + self.answers.len() >= PENDING_PUBLICATIONS_MAX
    }

    /// The rows of each publication, in the order in which they came.
    pub(super) fn rows(&self) -> impl Iterator<Item = &[Row]> {
        self.publications.iter().map(|publication| &publication.rows[..])
    }

    /// The rows of some publications sorted by dataset, in the order in which they came.
    pub(super) fn rows_by_dataset(
        &self,
        descriptors: &DescriptorTable,
        publications: Range<usize>,
    ) -> BTreeMap<DatasetId, VecDeque<Row>> {
        let publications = self.publications[publications].iter();
        let mut sorted: Vec<(DatasetId, VecDeque<Row>)> = Vec::new();
        let mut places: BTreeMap<PointId, usize> = BTreeMap::new();
        // Readings of one point come in runs, so the place of the last one is asked first.
        let mut last: Option<(PointId, usize)> = None;
        for row in publications.flat_map(|publication| &publication.rows) {
            let place = match last {
                Some((point, place)) if point == row.point => place,
                _ => *places.entry(row.point).or_insert_with(|| {
                    let point = descriptors.point(row.point);
                    let point = point.expect("handle_publication admits described points only");
                    let known = sorted.iter().position(|(dataset, _)| *dataset == point.dataset);
                    known.unwrap_or_else(|| {
                        sorted.push((point.dataset.clone(), VecDeque::new()));
                        sorted.len() - 1
                    })
                }),
            };
            last = Some((row.point, place));
            sorted[place].1.push_back(row.clone());
        }
        sorted.into_iter().collect()
    }

    /// Takes out the publications that have rows of a dataset.
    pub(super) fn take_of_dataset(
        &mut self,
        dataset: &DatasetId,
        descriptors: &DescriptorTable,
    ) -> Vec<Publication<T>> {
        let is_of =
            |row: &Row| descriptors.point(row.point).is_some_and(|point| point.dataset == *dataset);
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.publications)
            .into_iter()
            .partition(|publication| publication.rows.iter().any(is_of));
        self.publications = kept;
        let rows = || taken.iter().flat_map(|publication| &publication.rows);
        self.rows -= rows().count();
        self.value_bytes -= rows().map(value_bytes).sum::<usize>();
        taken
    }

    /// Everything, because the commit is through or has failed for good.
    pub(super) fn take_all(&mut self) -> (Vec<Publication<T>>, Vec<Answer<T>>) {
        (self.rows, self.value_bytes) = (0, 0);
        self.since = None;
        (std::mem::take(&mut self.publications), std::mem::take(&mut self.answers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use guan_model::value::BYTES_BYTES_MAX;
    use guan_model::{Quality, WallTime};

    #[test]
    fn batches_end_by_rows_or_by_the_bytes_of_their_values() {
        let check = |length: usize, count: usize, rows_max: usize, expect: &[usize]| {
            let value = Some(Value::Bytes(Bytes::from(vec![0; length])));
            let (gateway_time, quality) = (WallTime(0), Quality::GOOD);
            let row = Row { point: PointId(1), source_time: None, gateway_time, quality, value };
            let mut rows = VecDeque::from(vec![row; count]);
            let mut batches = Vec::new();
            while !rows.is_empty() {
                batches.push(take_batch(&mut rows, rows_max).len());
            }
            assert_eq!(batches, expect, "{count} rows of {length} bytes");
        };
        let full = BATCH_VALUE_BYTES_MAX / BYTES_BYTES_MAX;
        check(1, 10, 4, &[4, 4, 2]);
        check(BYTES_BYTES_MAX, full, 8192, &[full]);
        check(BYTES_BYTES_MAX, full + 1, 8192, &[full, 1]);
    }
}
