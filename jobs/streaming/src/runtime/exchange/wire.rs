//! Carries the messages of one edge over its connection.
//!
//! Invariant: what was sent is flushed as soon as nothing more waits in the queue, never by a timer: a single row is
//! not held back, and a full queue goes out in large writes. The socket's own buffers are the credits of the edge: a
//! receiver that does not read stops its sender, and no other edge.

use crate::functions::Versions;
use crate::runtime::exchange::frame::{self, Header, Kind, malformed};
use crate::runtime::exchange::{EdgeId, Message};
use crate::runtime::watermark::Progress;
use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamEncoder;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use std::io::{self, BufReader, BufWriter, Read, Write};

/// Large enough that a queue of small messages goes out in one call.
const WRITE_BUFFER_BYTES: usize = 64 << 10;

/// A job names a few models; this is thousands.
const VERSIONS_BYTES_MAX: usize = 1 << 20;

/// Which connection this is, for its frames.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    pub job: u64,
    pub generation: u64,
    pub edge: EdgeId,
}

/// Sends until the queue's sender is gone.
pub fn send_all(
    identity: Identity,
    schema: &SchemaRef,
    queue: &Receiver<Message>,
    stream: impl Write,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(WRITE_BUFFER_BYTES, stream);
    let mut encoder = StreamEncoder::try_new(schema).map_err(io::Error::other)?;
    let mut seq = 0;
    loop {
        let message = match queue.try_recv() {
            Ok(message) => message,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                out.flush()?;
                match queue.recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            }
        };
        seq += 1;
        let mut frame = |kind: Kind, payload: &[&[u8]]| {
            let length = payload.iter().map(|part| part.len()).sum::<usize>();
            let length = u32::try_from(length).map_err(|_| malformed(format!("a batch takes {length} bytes")))?;
            let Identity { job, generation, edge } = identity;
            frame::write(&mut out, &Header { job, generation, edge, seq, kind, length }, payload)
        };
        match message {
            Message::Batch(batch) => {
                let buffers = encoder.encode(&batch).map_err(io::Error::other)?;
                let parts: Vec<&[u8]> = buffers.iter().map(Buffer::as_slice).collect();
                frame(Kind::Batch, &parts)?;
            }
            Message::Watermark(Progress { watermark_us, idle, common }) => {
                let flags = u8::from(idle) | u8::from(common) << 1;
                frame(Kind::Watermark, &[&watermark_us.to_le_bytes(), &[flags]])?;
            }
            Message::Barrier { epoch, last, versions } => {
                let versions = match versions.is_empty() {
                    true => Vec::new(),
                    false => serde_json::to_vec(&versions)?,
                };
                frame(Kind::Barrier, &[&epoch.to_le_bytes(), &[u8::from(last)], &versions])?;
            }
        }
    }
    out.flush()
}

/// Receives until the other end closes, which is in order only after a last barrier, or until the queue's receiver is
/// gone.
pub fn receive_all(identity: Identity, queue: &Sender<Message>, stream: impl Read) -> io::Result<()> {
    let mut input = BufReader::with_capacity(WRITE_BUFFER_BYTES, stream);
    let mut decoder = StreamDecoder::new();
    let mut last_seq = 0;
    let mut ended = false;
    loop {
        let header = match frame::read_header(&mut input) {
            Ok(header) => header,
            Err(error) if ended && error.kind() != io::ErrorKind::InvalidData => return Ok(()),
            Err(error) => return Err(error),
        };
        let Identity { job, generation, edge } = identity;
        if (header.job, header.generation, header.edge, header.seq) != (job, generation, edge, last_seq + 1) {
            return Err(malformed(format!("frame {header:?} does not follow frame {last_seq} of {identity:?}")));
        }
        last_seq = header.seq;
        match header.kind {
            Kind::Batch => {
                // Arrow's buffers point into this one: it is aligned, and filled without another copy.
                let mut payload = MutableBuffer::from_len_zeroed(header.length as usize);
                input.read_exact(payload.as_slice_mut())?;
                let mut payload = Buffer::from(payload);
                let mut decode =
                    |bytes: &mut Buffer| decoder.decode(bytes).map_err(|error| malformed(error.to_string()));
                let mut batch = None;
                while batch.is_none() && !payload.is_empty() {
                    batch = decode(&mut payload)?;
                }
                if batch.is_none() {
                    // A batch whose columns take no bytes, or that has none, comes only when more bytes are seen.
                    batch = decode(&mut Buffer::from(&[0_u8]))?;
                }
                let Some(batch) = batch.filter(|_| payload.is_empty()) else {
                    return Err(malformed("a frame that does not hold one batch".to_string()));
                };
                if queue.send(Message::Batch(batch)).is_err() {
                    return Ok(());
                }
            }
            Kind::Watermark | Kind::Barrier => {
                // Versions stand behind a barrier's, if there are any.
                let rest = (header.length as usize).checked_sub(9).filter(|rest| match header.kind {
                    Kind::Barrier => *rest <= VERSIONS_BYTES_MAX,
                    _ => *rest == 0,
                });
                let Some(rest) = rest else {
                    return Err(malformed(format!("a signal has 9 bytes, not {}", header.length)));
                };
                let mut number = [0; 8];
                let mut flag = [0];
                input.read_exact(&mut number)?;
                input.read_exact(&mut flag)?;
                let (flag, common) = (flag[0] & 1 != 0, flag[0] & 2 != 0);
                let mut versions = vec![0; rest];
                input.read_exact(&mut versions)?;
                let versions = match versions.is_empty() {
                    true => Versions::new(),
                    false => serde_json::from_slice(&versions)?,
                };
                let message = match header.kind {
                    Kind::Barrier => Message::Barrier { epoch: u64::from_le_bytes(number), last: flag, versions },
                    _ => {
                        let watermark_us = i64::from_le_bytes(number);
                        Message::Watermark(Progress { watermark_us, idle: flag, common })
                    }
                };
                ended |= matches!(message, Message::Barrier { last: true, .. });
                if queue.send(message).is_err() {
                    return Ok(());
                }
            }
            Kind::Hello | Kind::Accepted | Kind::Refused => {
                return Err(malformed(format!("{:?} in the middle of a connection", header.kind)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::exchange::EDGE_QUEUE;
    use arrow::array::{ArrayRef, Int64Array, NullArray, RecordBatch, RecordBatchOptions};
    use arrow::datatypes::{DataType, Field, Schema};
    use crossbeam_channel::{bounded, unbounded};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::Duration;

    fn check(columns: &[(DataType, ArrayRef)], n_rows: usize) {
        let fields = columns.iter().map(|(data_type, _)| Field::new("c", data_type.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let arrays = columns.iter().map(|(_, array)| Arc::clone(array)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(n_rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options).expect("a batch");
        let versions = Versions::from([("fraud@production".to_string(), 7)]);
        let last = Message::Barrier { epoch: 1, last: true, versions };
        let messages = [Message::Batch(batch.clone()), Message::Batch(batch), last];

        let (out, input) = connected();
        let identity = Identity { job: 1, generation: 2, edge: EdgeId { node: 3, from_slot: 4, to_slot: 5 } };
        let (queue, queued) = unbounded();
        messages.iter().for_each(|message| queue.send(message.clone()).expect("room"));
        drop(queue);
        send_all(identity, &schema, &queued, out).expect("it is sent");
        let (queue, came) = unbounded();
        receive_all(identity, &queue, input).expect("it comes");
        drop(queue);
        assert_eq!(came.iter().collect::<Vec<Message>>(), messages);
    }

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let out = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        (out, listener.accept().expect("a connection").0)
    }

    /// Two edges of one sender, of which one is not read: it takes what its queue and its connection hold and no more, and
    /// the other one goes on. Once it is read, everything comes, in order.
    #[test]
    fn a_connection_that_is_not_read_stops_its_own_sender_alone() {
        const BATCH_ROWS: i64 = 1 << 17;
        // A megabyte each, so that these are far more than a connection holds.
        const N_BATCHES: i64 = 200;
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let batch = |number: i64| {
            let rows = Int64Array::from_iter_values(number * BATCH_ROWS..(number + 1) * BATCH_ROWS);
            RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(rows)]).expect("a batch")
        };
        let end = Message::Barrier { epoch: 1, last: true, versions: Versions::new() };
        let (to_read, to_unread) = (connected(), connected());
        std::thread::scope(|scope| {
            let mut ends = Vec::new();
            for (to_slot, (out, input)) in [to_read, to_unread].into_iter().enumerate() {
                let edge = EdgeId { node: 3, from_slot: 0, to_slot: to_slot as u32 };
                let identity = Identity { job: 1, generation: 1, edge };
                let (queue, queued) = bounded(EDGE_QUEUE);
                let (came, coming) = bounded(EDGE_QUEUE);
                let schema = Arc::clone(&schema);
                scope.spawn(move || send_all(identity, &schema, &queued, out).expect("it is sent"));
                scope.spawn(move || receive_all(identity, &came, input).expect("it comes"));
                ends.push((queue, coming));
            }
            let [(read_queue, read), (unread_queue, unread)] = <[_; 2]>::try_from(ends).expect("two");
            // Until there is no more room for a while, which a reader would make within a moment.
            let taken = (0..N_BATCHES)
                .take_while(|number| {
                    let message = Message::Batch(batch(*number));
                    unread_queue.send_timeout(message, Duration::from_millis(500)).is_ok()
                })
                .count() as i64;
            assert!(taken < N_BATCHES / 2, "{taken} MB were taken, and nobody reads them");
            assert!(unread_queue.is_full());
            let arrived = |coming: &Receiver<Message>, number| match coming.recv().expect("a message") {
                Message::Batch(came) => assert_eq!(came, batch(number)),
                other => panic!("{other:?} where rows are due"),
            };
            for number in 0..N_BATCHES / 4 {
                read_queue.send(Message::Batch(batch(number))).expect("it is read");
                arrived(&read, number);
            }
            assert!(unread_queue.is_full(), "meanwhile nothing of it went on");
            read_queue.send(end.clone()).expect("it is read");
            let rest = scope.spawn(move || {
                (0..taken).for_each(|number| arrived(&unread, number));
                unread.recv().expect("the end")
            });
            unread_queue.send(end.clone()).expect("it is read");
            assert_eq!(rest.join().expect("all came"), end);
            drop((read_queue, unread_queue));
        });
    }

    #[test]
    fn rows_without_bytes_arrive_with_their_frame() {
        check(&[], 3);
        check(&[(DataType::Null, Arc::new(NullArray::new(2)))], 2);
        check(&[(DataType::Int64, Arc::new(Int64Array::from(vec![1, 2, 3])))], 3);
    }
}
