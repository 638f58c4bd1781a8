//! Rows in the windows of their event time: [time is there] -> [a row for each window], with the window's bounds.
//!
//! So are windows whose rows nobody aggregates, and those over rows that may come, or be taken back, at any time after the
//! watermark: what groups by the bounds of the latter is an aggregation without end, whose answers change as these rows do.

use super::{Bound, TIME_BEFORE_END_US, WindowNode};
use crate::dataflow::{Operator, Window};
use crate::functions::{cumulate_ends, hop_starts, tumble_start};
use crate::sql::errors::Place;
use crate::sql::late_rows::check_row;
use crate::sql::lower::{Lowered, Lowering, Open, Outputs, Slot, Stream, defect, interval_us, planner};
use crate::sql::refuse::{at, find};
use crate::sql::time::{EventTime, of_window};
use arrow::datatypes::{DataType, Field};
use datafusion::common::DFSchemaRef;
use datafusion::logical_expr::{Expr, lit};
use jobs::Diagnostic;

/// A stream whose time and partition are columns of its node.
struct Timed {
    stream: Stream,
    time: usize,
    partition: Vec<usize>,
}

impl Lowering<'_> {
    /// `opens`: an aggregation above it groups by the window.
    pub(crate) fn window(
        &mut self,
        window: &WindowNode,
        schema: DFSchemaRef,
        opens: bool,
        places: &[Place<'_>],
    ) -> Lowered<Stream> {
        let (input, time) = self.timed_input(window, places)?;
        if input.stream.open.is_some() {
            let error = Diagnostic::new("a window of the rows of a SESSION is not supported");
            let error = error.help("aggregate the session, and window its answers by window_time");
            return Err(at(error, find(places, &[&["SESSION"]])));
        }
        let is_session = matches!(window.window, Window::Session { .. });
        if time.is_rewritten {
            if is_session {
                return Err(rewritten_session(places));
            }
            return self.rows(window, schema, input, places);
        }
        let wait_us = time.behind_us();
        if !opens && !is_session {
            return self.rows(window, schema, input, places);
        }
        let Timed { stream, time: column, partition } = input;
        check_row(&stream, &time.late_rows, places)?;
        let node = self.hold_back(stream.node, wait_us, places)?;
        let slots = stream.slots.into_iter().chain(Bound::ALL.map(Slot::Window)).collect();
        let open = Open { window: window.window, time: column, partition, lateness_us: time.lateness_us };
        Ok(Stream { node, schema, slots, open: Some(open), row: stream.row })
    }

    /// The input of a window, and what its time is. First rows are settled before they are said where that makes them
    /// rows that stay and come in time.
    fn timed_input(&mut self, window: &WindowNode, places: &[Place<'_>]) -> Lowered<(Timed, EventTime)> {
        let lost = || defect("a window of what is no event time", places);
        let hoped = of_window(window, false).ok_or_else(lost)?;
        let firsts = if hoped.is_rewritten { Vec::new() } else { hoped.firsts };
        let n_settled = self.settled.len();
        let has_firsts = !firsts.is_empty();
        self.settled.extend(firsts);
        let lowered = self.lower(&window.input, places);
        self.settled.truncate(n_settled);
        let mut stream = lowered?;
        let mut time = of_window(window, self.graph.changes(stream.node)).ok_or_else(lost)?;
        if time.is_rewritten && has_firsts {
            stream = self.lower(&window.input, places)?;
            time = of_window(window, true).ok_or_else(lost)?;
        }
        Ok((self.timed(window, stream, places)?, time))
    }

    fn timed(&mut self, window: &WindowNode, stream: Stream, places: &[Place<'_>]) -> Lowered<Timed> {
        let columns = std::iter::once(&window.time).chain(&window.partition);
        let indices = columns.map(|column| stream.schema.index_of_column(column)).collect::<Result<Vec<usize>, _>>();
        let indices = indices.map_err(|error| planner(&error, places))?;
        let plain = indices.iter().all(|index| matches!(stream.slots[*index], Slot::Column(_)));
        let stream = if plain { stream } else { self.with_columns(stream, places)? };
        let column = |index: &usize| match stream.slots[*index] {
            Slot::Column(column) => Ok(column),
            _ => Err(defect("a time that is no column", places)),
        };
        let mut partition = indices.iter().map(column).collect::<Lowered<Vec<usize>>>()?;
        let time = partition.remove(0);
        Ok(Timed { stream, time, partition })
    }

    /// The same rows, with every logical column a column of the node.
    fn with_columns(&mut self, stream: Stream, places: &[Place<'_>]) -> Lowered<Stream> {
        let mut outputs = Outputs::default();
        let columns = self.all_columns(&stream, &mut outputs, places)?;
        let row = stream.row.map(|row| row.through(stream.node, &mut outputs, &self.graph));
        let node = self.outputs(stream.node, outputs, places)?;
        let slots = columns.into_iter().map(Slot::Column).collect();
        Ok(Stream { node, slots, schema: stream.schema, open: None, row })
    }

    /// The rows of a stream, once for each window; those without a time are in none.
    fn rows(
        &mut self,
        window: &WindowNode,
        schema: DFSchemaRef,
        Timed { stream, time, .. }: Timed,
        places: &[Place<'_>],
    ) -> Lowered<Stream> {
        let has_time = self.graph.column(stream.node, time).is_not_null();
        let node = self.only(stream.node, &has_time, places)?;
        let stream = Stream { node, ..stream };
        let since = |time: Expr, offset_us: i64| match offset_us {
            0 => time,
            offset_us => time - interval_us(offset_us),
        };
        let after = |time: Expr, by_us: i64| if by_us == 0 { time } else { time + interval_us(by_us) };
        let own = self.graph.column(stream.node, time);
        let begin = |time: Expr, width_us: i64, offset_us: i64| {
            after(tumble_start().call(vec![since(time, offset_us), lit(width_us)]), offset_us)
        };
        match window.window {
            Window::Tumble { width_us, offset_us } => {
                let start = begin(own, width_us, offset_us);
                Ok(bounded(stream, schema, (start.clone(), after(start, width_us))))
            }
            Window::Hop { width_us, slide_us, offset_us } => {
                let starts = hop_starts().call(vec![since(own, offset_us), lit(width_us), lit(slide_us)]);
                let (stream, _, start) = self.each(stream, time, starts, places)?;
                let start = after(start, offset_us);
                Ok(bounded(stream, schema, (start.clone(), after(start, width_us))))
            }
            Window::Cumulate { width_us, step_us, offset_us } => {
                let ends = cumulate_ends().call(vec![since(own, offset_us), lit(width_us), lit(step_us)]);
                let (stream, time, end) = self.each(stream, time, ends, places)?;
                let start = begin(self.graph.column(stream.node, time), width_us, offset_us);
                Ok(bounded(stream, schema, (start, after(end, offset_us))))
            }
            Window::Session { .. } => Err(defect("the rows of a SESSION", places)),
        }
    }

    /// A row for each item of a list, which comes last; and where the time is now.
    fn each(
        &mut self,
        stream: Stream,
        time: usize,
        list: Expr,
        places: &[Place<'_>],
    ) -> Lowered<(Stream, usize, Expr)> {
        let mut outputs = Outputs::default();
        let mut slots = Vec::with_capacity(stream.slots.len());
        for index in 0..stream.slots.len() {
            let expr = self.slot(&stream, index, places)?;
            slots.push(Slot::Column(outputs.push(expr, stream.schema.field(index).name())));
        }
        let time = outputs.push(self.graph.column(stream.node, time), "event_time");
        let row = stream.row.map(|row| row.through(stream.node, &mut outputs, &self.graph));
        let item = outputs.push_apart(list, "window");
        let node = self.outputs(stream.node, outputs, places)?;
        let mut fields = self.graph.fields(node);
        let DataType::List(of) = fields[item].data_type().clone() else {
            return Err(defect("windows that are no list", places));
        };
        fields[item] = Field::new("window", of.data_type().clone(), true);
        let operator = Operator::Unnest { n_lists: 1, outer: false };
        let node = self.graph.add("unnest", "1 false", vec![node], fields, operator);
        let node = node.map_err(|error| planner(&error, places))?;
        let item = self.graph.column(node, item);
        Ok((Stream { node, slots, schema: stream.schema, open: None, row }, time, item))
    }
}

/// The stream with the bounds of the window that each row is in.
fn bounded(stream: Stream, schema: DFSchemaRef, (start, end): (Expr, Expr)) -> Stream {
    let time = end.clone() - interval_us(TIME_BEFORE_END_US);
    let slots = stream.slots.into_iter().chain([start, end, time].map(Slot::Lazy)).collect();
    Stream { slots, schema, ..stream }
}

fn rewritten_session(places: &[Place<'_>]) -> Diagnostic {
    let error = Diagnostic::new(
        "SESSION over rows that may come, or be taken back, long after the watermark has passed them is not supported: a \
         session that is over could begin anew",
    );
    let error = error.help(
        "take sessions before what takes rows back (a table with option 'changelog', a join without bounds in event time, \
         last rows), or use TUMBLE or HOP, whose answers then change",
    );
    at(error, find(places, &[&["SESSION"]]))
}
