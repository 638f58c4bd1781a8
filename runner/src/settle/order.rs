//! The order in which the jobs of a group start: whatever a job waits for stands before it.

/// Indices in start order, keeping the given order where nothing else is asked; or the indices of jobs that wait for
/// each other. `after[i]` are the jobs that job `i` waits for.
pub fn start_order(after: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut order: Vec<usize> = Vec::with_capacity(after.len());
    let mut placed = vec![false; after.len()];
    while order.len() < after.len() {
        let ready = (0..after.len()).find(|job| !placed[*job] && after[*job].iter().all(|other| placed[*other]));
        match ready {
            Some(job) => {
                placed[job] = true;
                order.push(job);
            }
            None => return Err(circle(after, &placed)),
        }
    }
    Ok(order)
}

/// Walks from any job that is left along what it waits for, until a job comes up again.
fn circle(after: &[Vec<usize>], placed: &[bool]) -> Vec<usize> {
    let mut path: Vec<usize> = Vec::new();
    let mut at = placed.iter().position(|placed| !placed);
    while let Some(job) = at {
        if let Some(start) = path.iter().position(|seen| *seen == job) {
            return path.split_off(start);
        }
        path.push(job);
        at = after[job].iter().copied().find(|other| !placed[*other]);
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_comes_first() {
        assert_eq!(start_order(&[vec![2], vec![], vec![1]]), Ok(vec![1, 2, 0]));
        assert_eq!(start_order(&[vec![], vec![], vec![]]), Ok(vec![0, 1, 2]));
        assert_eq!(start_order(&[]), Ok(vec![]));
    }

    #[test]
    fn circles_are_found() {
        assert_eq!(start_order(&[vec![1], vec![2], vec![1]]), Err(vec![1, 2]));
        assert_eq!(start_order(&[vec![0]]), Err(vec![0]));
    }
}
