//! What waits for the next commit.

use super::{PENDING_PUBLICATIONS_MAX, Publication};
use guan_model::{DatasetId, DescriptorTable, PointId, Row};
use std::collections::BTreeMap;
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
    since: Option<Duration>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { publications: Vec::new(), answers: Vec::new(), rows: 0, since: None }
    }
}

impl<T> Pending<T> {
    pub(super) fn push(&mut self, at: Duration, publication: Publication<T>) {
        self.rows += publication.rows.len();
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
    ) -> BTreeMap<DatasetId, Vec<Row>> {
        let mut datasets: BTreeMap<DatasetId, Vec<Row>> = BTreeMap::new();
        // Messages of one dataset come in runs, so the list of the last one is asked first.
        let mut dataset_of: BTreeMap<PointId, DatasetId> = BTreeMap::new();
        let publications = self.publications[publications].iter();
        for row in publications.flat_map(|publication| &publication.rows) {
            let dataset = dataset_of.entry(row.point).or_insert_with(|| {
                let point = descriptors.point(row.point);
                point.expect("handle_publication admits described points only").dataset.clone()
            });
            match datasets.get_mut(dataset) {
                Some(rows) => rows.push(row.clone()),
                None => {
                    datasets.insert(dataset.clone(), vec![row.clone()]);
                }
            }
        }
        datasets
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
        self.rows -= taken.iter().map(|publication| publication.rows.len()).sum::<usize>();
        taken
    }

    /// Everything, because the commit is through or has failed for good.
    pub(super) fn take_all(&mut self) -> (Vec<Publication<T>>, Vec<Answer<T>>) {
        self.rows = 0;
        self.since = None;
        (std::mem::take(&mut self.publications), std::mem::take(&mut self.answers))
    }
}
