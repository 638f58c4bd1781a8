//! How ONNX sees the values of a layer of ours: its dimensions, each made of parts of our array.
//!
//! Transpositions, reshapes, slices and the like only look at values in another way, so they cost nothing here until a layer
//! asks for them in an order of its own. The batch is a part like others, and may stand anywhere: recurrent operators have
//! steps before rows, and some exporters make one dimension of rows and places. Invariant: the parts' sizes are above 1, but
//! for the batch's; what is not possible is `None`, never a panic.

/// A dimension, or a factor of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Batch,
    /// Of a row: so many values, so far apart.
    Own {
        size: usize,
        stride: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Of the first value in a row.
    pub offset: usize,
    /// Outer part first; none for a dimension of size 1.
    pub axes: Vec<Vec<Part>>,
}

fn own(size: usize, stride: usize) -> Vec<Part> {
    if size == 1 { Vec::new() } else { vec![Part::Own { size, stride }] }
}

impl View {
    /// Rows of these dimensions as they lie, the batch first.
    pub fn rows(dims: &[usize]) -> Self {
        let mut axes = vec![vec![Part::Batch]];
        let mut stride: usize = dims.iter().product();
        for dim in dims {
            stride /= (*dim).max(1);
            axes.push(own(*dim, stride));
        }
        Self { offset: 0, axes }
    }

    pub fn size(&self, axis: usize, batch: usize) -> usize {
        let size = |part: &Part| match part {
            Part::Batch => batch,
            Part::Own { size, .. } => *size,
        };
        self.axes[axis].iter().map(size).product()
    }

    pub fn sizes(&self, batch: usize) -> Vec<usize> {
        (0..self.axes.len()).map(|axis| self.size(axis, batch)).collect()
    }

    /// All parts but the batch, in order.
    pub fn own_parts(&self) -> Vec<(usize, usize)> {
        self.axes
            .iter()
            .flatten()
            .filter_map(|part| match part {
                Part::Own { size, stride } => Some((*size, *stride)),
                Part::Batch => None,
            })
            .collect()
    }

    /// The dimensions of a row as they are seen, without those of size 1; `[1]` for a single value.
    pub fn own_dims(&self) -> Vec<usize> {
        let own = |parts: &Vec<Part>| -> usize {
            let size = |part: &Part| match part {
                Part::Own { size, .. } => *size,
                Part::Batch => 1,
            };
            parts.iter().map(size).product()
        };
        let dims: Vec<usize> = self.axes.iter().map(own).filter(|size| *size > 1).collect();
        if dims.is_empty() { vec![1] } else { dims }
    }

    /// Values of a row that are seen.
    pub fn row(&self) -> usize {
        self.own_parts().iter().map(|(size, _)| size).product()
    }

    /// Whether the batch stands before everything else; one of a single row stands everywhere.
    pub fn batch_first(&self, batch: usize) -> bool {
        let mut parts = self.axes.iter().flatten();
        batch == 1 || parts.next() == Some(&Part::Batch)
    }

    pub fn transposed(&self, order: &[usize]) -> Option<Self> {
        let mut seen = vec![false; self.axes.len()];
        let mut axes = Vec::with_capacity(order.len());
        for axis in order {
            if std::mem::replace(seen.get_mut(*axis)?, true) {
                return None;
            }
            axes.push(self.axes[*axis].clone());
        }
        (axes.len() == self.axes.len()).then_some(Self { offset: self.offset, axes })
    }

    /// These axes of the result are new, of size 1.
    pub fn unsqueezed(&self, at: &[usize]) -> Option<Self> {
        let rank = self.axes.len() + at.len();
        let mut old = self.axes.iter();
        let mut axes = Vec::with_capacity(rank);
        for axis in 0..rank {
            axes.push(if at.contains(&axis) { Vec::new() } else { old.next()?.clone() });
        }
        old.next().is_none().then_some(Self { offset: self.offset, axes })
    }

    /// Without these axes, which are of size 1.
    pub fn squeezed(&self, at: &[usize], batch: usize) -> Option<Self> {
        let mut axes = Vec::new();
        let mut lost_batch = false;
        for (axis, parts) in self.axes.iter().enumerate() {
            if !at.contains(&axis) {
                axes.push(parts.clone());
            } else if parts.contains(&Part::Batch) && batch == 1 && parts.len() == 1 {
                lost_batch = true;
            } else if !parts.is_empty() {
                return None;
            }
        }
        if lost_batch {
            // It is still there, and its size is 1, so any place will do.
            axes.first_mut()?.insert(0, Part::Batch);
        }
        Some(Self { offset: self.offset, axes })
    }

    pub fn reshaped(&self, sizes: &[usize], batch: usize) -> Option<Self> {
        let mut parts: Vec<Part> = self.axes.iter().flatten().copied().rev().collect();
        let mut axes = Vec::with_capacity(sizes.len());
        for size in sizes {
            let mut need = *size;
            let mut axis = Vec::new();
            if need == 1 && batch == 1 && parts.last() == Some(&Part::Batch) {
                axis.extend(parts.pop());
            }
            while need > 1 {
                match parts.pop()? {
                    Part::Batch if need.is_multiple_of(batch) => {
                        axis.push(Part::Batch);
                        need /= batch;
                    }
                    Part::Batch => return None,
                    Part::Own { size, stride } if need.is_multiple_of(size) => {
                        axis.push(Part::Own { size, stride });
                        need /= size;
                    }
                    Part::Own { size, stride } if size.is_multiple_of(need) => {
                        let inner = size / need;
                        axis.push(Part::Own { size: need, stride: stride * inner });
                        parts.push(Part::Own { size: inner, stride });
                        need = 1;
                    }
                    Part::Own { .. } => return None,
                }
            }
            axes.push(axis);
        }
        if parts.last() == Some(&Part::Batch) && batch == 1 {
            parts.pop();
            axes.first_mut()?.insert(0, Part::Batch);
        }
        parts.is_empty().then_some(Self { offset: self.offset, axes })
    }

    /// The values at one place of an axis, which goes.
    pub fn selected(&self, axis: usize, at: usize) -> Option<Self> {
        let mut selected = self.clone();
        let parts = selected.axes.remove(axis);
        let mut rest = at;
        for part in parts.iter().rev() {
            let Part::Own { size, stride } = part else { return None };
            selected.offset += rest % size * stride;
            rest /= size;
        }
        (rest == 0).then_some(selected)
    }

    /// Places `from..to` of an axis.
    pub fn sliced(&self, axis: usize, from: usize, to: usize) -> Option<Self> {
        let mut sliced = self.clone();
        match self.axes[axis][..] {
            [] => (from == 0 && to == 1).then_some(sliced),
            [Part::Own { size, stride }] if from < to && to <= size => {
                sliced.offset += from * stride;
                sliced.axes[axis] = own(to - from, stride);
                Some(sliced)
            }
            _ => None,
        }
    }

    /// Every place of a row that is seen, in order; `None` for more than so many.
    pub fn places(&self, most: usize) -> Option<Vec<usize>> {
        let mut places = vec![self.offset];
        for (size, stride) in self.own_parts() {
            if places.len().checked_mul(size)? > most {
                return None;
            }
            places = places.iter().flat_map(|place| (0..size).map(move |at| place + at * stride)).collect();
        }
        Some(places)
    }
}

/// Whether parts lie one after the other without gaps: the last is the innermost.
pub fn contiguous(parts: &[(usize, usize)]) -> bool {
    let mut expected = 1;
    for (size, stride) in parts.iter().rev() {
        if *stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: usize = 1_000_003;

    #[test]
    fn looking_in_another_way_and_back_is_as_before() {
        let rows = View::rows(&[4, 6, 5]);
        assert_eq!(rows.sizes(BATCH), [BATCH, 4, 6, 5]);
        let turned = rows.transposed(&[0, 3, 1, 2]).unwrap();
        assert_eq!(turned.sizes(BATCH), [BATCH, 5, 4, 6]);
        assert!(!contiguous(&turned.own_parts()));
        assert_eq!(turned.transposed(&[0, 2, 3, 1]).unwrap(), rows);
        let heads = rows.reshaped(&[BATCH * 4, 2, 3, 5], BATCH).unwrap();
        assert_eq!(heads.sizes(BATCH), [BATCH * 4, 2, 3, 5]);
        assert_eq!(heads.reshaped(&[BATCH, 4, 6, 5], BATCH).unwrap().own_parts().len(), 4);
        assert!(contiguous(&heads.own_parts()));
        assert_eq!(rows.unsqueezed(&[0, 5]).unwrap().squeezed(&[0, 5], BATCH), Some(rows.clone()));
        assert_eq!(rows.selected(2, 5).unwrap().offset, 25);
        assert_eq!(rows.sliced(3, 1, 3).unwrap().places(100).unwrap().len(), 48);
        assert_eq!(rows.selected(1, 3).unwrap().selected(1, 2).unwrap().places(9), Some(vec![100, 101, 102, 103, 104]));
    }

    #[test]
    fn what_is_not_possible_is_none() {
        let rows = View::rows(&[4, 6]);
        assert_eq!(rows.reshaped(&[4, BATCH, 6], BATCH), None);
        assert_eq!(rows.reshaped(&[BATCH, 5, 5], BATCH), None);
        assert_eq!(rows.reshaped(&[BATCH, 4], BATCH), None);
        assert_eq!(rows.transposed(&[0, 1, 1]), None);
        assert_eq!(rows.transposed(&[0, 1]), None);
        assert_eq!(rows.squeezed(&[1], BATCH), None);
        assert_eq!(rows.selected(1, 4), None);
        assert_eq!(rows.selected(0, 0), None);
        assert_eq!(rows.sliced(2, 3, 7), None);
    }

    #[test]
    fn one_row_fits_everywhere() {
        let rows = View::rows(&[4, 6]);
        let flat = rows.reshaped(&[4, 6], 1).unwrap();
        assert_eq!(flat.sizes(1), [4, 6]);
        assert!(flat.batch_first(1));
        assert_eq!(flat.reshaped(&[1, 24], 1).unwrap().sizes(1), [1, 24]);
        assert_eq!(rows.squeezed(&[0], 1).unwrap().sizes(1), [4, 6]);
    }
}
