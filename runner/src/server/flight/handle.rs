//! What a ticket, or the handle of a prepared statement, holds: the text of a query, and values of its parameters.

use crate::server::queries::Question;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use datafusion::common::ScalarValue;
use prost::Message;
use prost::bytes::Bytes;
use tonic::Status;

/// Values travel back and forth with each call.
const BYTES_MAX: usize = 1 << 20;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Handle {
    #[prost(string, tag = "1")]
    query: String,
    /// One row as an Arrow IPC stream; nothing without values.
    #[prost(bytes = "bytes", tag = "2")]
    parameters: Bytes,
}

impl Handle {
    pub(super) fn of(query: String) -> Self {
        Self { query, parameters: Bytes::new() }
    }

    pub(super) fn encoded(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    pub(super) fn decoded(bytes: &Bytes) -> Result<Self, Status> {
        Self::decode(bytes.clone()).map_err(|_| strange())
    }

    /// `row`: the values, a column each.
    pub(super) fn with(self, row: Option<&RecordBatch>) -> Result<Self, Status> {
        let Some(row) = row else { return Ok(Self { parameters: Bytes::new(), ..self }) };
        let failed = |error| Status::internal(format!("failed to write the parameters' values down: {error}"));
        let mut writer = StreamWriter::try_new(Vec::new(), &row.schema()).map_err(failed)?;
        writer.write(row).map_err(failed)?;
        let bytes = writer.into_inner().map_err(failed)?;
        match bytes.len() {
            0..=BYTES_MAX => Ok(Self { parameters: bytes.into(), ..self }),
            n => Err(Status::invalid_argument(format!(
                "the parameters' values take {n} bytes, more than {BYTES_MAX}; put them into a table and join it"
            ))),
        }
    }

    pub(super) fn question(self) -> Result<Question, Status> {
        let parameters = if self.parameters.is_empty() { Vec::new() } else { values(&self.parameters)? };
        Ok(Question { text: self.query, parameters })
    }
}

fn values(bytes: &Bytes) -> Result<Vec<ScalarValue>, Status> {
    let mut rows = StreamReader::try_new(bytes.as_ref(), None).map_err(|_| strange())?;
    let row = rows.next().ok_or_else(strange)?.map_err(|_| strange())?;
    if row.num_rows() != 1 {
        return Err(strange());
    }
    let value = |column: &ArrayRef| {
        let failed =
            |error| Status::invalid_argument(format!("a parameter has a type that is not known here: {error}"));
        ScalarValue::try_from_array(column, 0).map_err(failed)
    };
    row.columns().iter().map(value).collect()
}

fn strange() -> Status {
    Status::invalid_argument("the handle is none of this server's")
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use std::sync::Arc;

    fn row(n_rows: usize, text: &str) -> RecordBatch {
        let (numbers, texts) = (Int64Array::from(vec![None; n_rows]), StringArray::from(vec![text; n_rows]));
        let columns: [(&str, ArrayRef); 2] = [("0", Arc::new(numbers)), ("1", Arc::new(texts))];
        RecordBatch::try_from_iter(columns).expect("columns of one length")
    }

    #[test]
    fn a_handle_comes_back_as_it_was_given() {
        let asked = Handle::of("SELECT ?, ?".to_string());
        let question = Handle::decoded(&asked.encoded()).and_then(Handle::question).expect("a question");
        assert_eq!((question.text.as_str(), question.parameters.len()), ("SELECT ?, ?", 0));
        let bound = asked.with(Some(&row(1, "x"))).expect("small values");
        let question = Handle::decoded(&bound.encoded()).and_then(Handle::question).expect("a question");
        assert_eq!(question.parameters, [ScalarValue::Int64(None), ScalarValue::from("x")]);
        let unbound = bound.with(None).and_then(Handle::question).expect("a question");
        assert_eq!(unbound.parameters.len(), 0, "values are taken away by none");
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let rubbish = Handle { query: String::new(), parameters: Bytes::from_static(b"rubbish") };
        let several = {
            let mut writer = StreamWriter::try_new(Vec::new(), &row(2, "").schema()).expect("a writer");
            writer.write(&row(2, "")).expect("written");
            Bytes::from(writer.into_inner().expect("bytes"))
        };
        for handle in [rubbish, Handle { query: String::new(), parameters: several }] {
            let error = handle.question().expect_err("no row of values");
            assert_eq!(error.message(), "the handle is none of this server's");
        }
        assert!(Handle::decoded(&Bytes::from_static(b"\xff")).is_err());
        let huge = Handle::of(String::new()).with(Some(&row(1, &"x".repeat(BYTES_MAX))));
        assert!(huge.expect_err("too much").message().contains("join it"));
    }
}
