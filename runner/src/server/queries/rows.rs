//! The rows of a query on their way to whoever asked: computed on the queries' threads, a few batches ahead.
//!
//! Invariant: rows end as they should or with an error, never in between. A query whose reader stands still gives its turn
//! back after a while, and the reader is told.

use arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::{Stream, StreamExt};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Batches that wait for the reader: one is sent while one is made.
const AHEAD: usize = 2;
/// How long a reader may stand still. Long enough for one who works on each batch.
pub(super) const STANDS_STILL: Duration = Duration::from_secs(300);

enum Item {
    Batch(RecordBatch),
    Error(String),
    End,
}

/// Rows, and then an end or an error.
pub struct Rows {
    items: mpsc::Receiver<Item>,
    is_over: bool,
}

impl Rows {
    /// To be called on a thread of the queries'.
    pub(super) fn of(rows: SendableRecordBatchStream, turn: OwnedSemaphorePermit) -> Self {
        let (sender, items) = mpsc::channel(AHEAD);
        tokio::spawn(pump(rows, sender, turn, STANDS_STILL));
        Self { items, is_over: false }
    }

    pub(super) fn one(batch: RecordBatch) -> Self {
        let (sender, items) = mpsc::channel(AHEAD);
        // There is room for both.
        let _ = sender.try_send(Item::Batch(batch)).and_then(|()| sender.try_send(Item::End));
        Self { items, is_over: false }
    }
}

async fn pump(
    mut rows: SendableRecordBatchStream,
    sender: mpsc::Sender<Item>,
    turn: OwnedSemaphorePermit,
    stands_still: Duration,
) {
    loop {
        let next = tokio::select! {
            next = rows.next() => next,
            // Nobody waits for them any more.
            () = sender.closed() => break,
        };
        let (item, is_last) = match next {
            Some(Ok(batch)) => (Item::Batch(batch), false),
            Some(Err(error)) => (Item::Error(error.strip_backtrace()), true),
            None => (Item::End, true),
        };
        // Without a last word the reader hears that he stood still.
        let sent = tokio::time::timeout(stands_still, sender.send(item)).await;
        if is_last || !matches!(sent, Ok(Ok(()))) {
            break;
        }
    }
    drop(turn);
}

impl Stream for Rows {
    type Item = Result<RecordBatch, DataFusionError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let item = std::task::ready!(self.items.poll_recv(context));
        self.is_over = !matches!(item, Some(Item::Batch(_)));
        let failed = |why: String| Poll::Ready(Some(Err(DataFusionError::Execution(why))));
        match item {
            Some(Item::Batch(batch)) => Poll::Ready(Some(Ok(batch))),
            Some(Item::End) => Poll::Ready(None),
            Some(Item::Error(why)) => failed(why),
            None => failed(format!("nobody took its rows for {} s, so it was ended", STANDS_STILL.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
    use std::sync::Arc;
    use tokio::sync::Semaphore;

    fn batch(value: i64) -> RecordBatch {
        RecordBatch::try_from_iter([("a", Arc::new(Int64Array::from(vec![value])) as _)]).expect("a batch")
    }

    fn endless() -> SendableRecordBatchStream {
        let rows = futures::stream::iter((0..).map(|value| Ok(batch(value))));
        Box::pin(RecordBatchStreamAdapter::new(batch(0).schema(), rows))
    }

    fn turns() -> (Arc<Semaphore>, OwnedSemaphorePermit) {
        let turns = Arc::new(Semaphore::new(1));
        let turn = Arc::clone(&turns).try_acquire_owned().expect("the turn");
        (turns, turn)
    }

    #[tokio::test]
    async fn who_stands_still_is_told_and_gives_the_turn_back() {
        let (turns, turn) = turns();
        let (sender, items) = mpsc::channel(AHEAD);
        tokio::spawn(pump(endless(), sender, turn, Duration::from_millis(10)));
        let _ = turns.acquire().await.expect("the turn comes back");
        let rows: Vec<_> = Rows { items, is_over: false }.collect().await;
        let (last, before) = rows.split_last().expect("rows");
        assert!(before.iter().all(Result::is_ok) && before.len() == AHEAD, "{rows:?}");
        assert!(last.as_ref().is_err_and(|error| error.to_string().contains("nobody took its rows")), "{last:?}");
    }

    #[tokio::test]
    async fn who_goes_away_gives_the_turn_back() {
        let (turns, turn) = turns();
        let mut rows = Rows::of(endless(), turn);
        assert!(rows.next().await.is_some_and(|row| row.is_ok()));
        drop(rows);
        let _ = turns.acquire().await.expect("the turn comes back");
    }

    #[tokio::test]
    async fn errors_and_ends_are_told_once() {
        let failing = futures::stream::iter([Ok(batch(1)), Err(DataFusionError::Execution("broken".to_string()))]);
        let failing = Box::pin(RecordBatchStreamAdapter::new(batch(0).schema(), failing));
        let rows: Vec<_> = Rows::of(failing, turns().1).collect().await;
        assert!(
            rows.len() == 2 && rows[1].as_ref().is_err_and(|error| error.to_string().contains("broken")),
            "{rows:?}"
        );
        let rows: Vec<_> = Rows::one(batch(1)).collect().await;
        assert!(rows.len() == 1 && rows[0].is_ok(), "{rows:?}");
    }
}
