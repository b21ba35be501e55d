//! The graph walked backwards: what leads to an object, and by which way. Pure.

use std::collections::VecDeque;

use super::graph::Graph;

const NONE: u32 = u32::MAX;

/// Everything that leads to one object.
pub(super) struct Back {
    target: u32,
    /// For each object the next one on a shortest way to the target.
    next: Vec<u32>,
    /// In the order of their distance, the target first.
    found: Vec<u32>,
}

impl Back {
    pub(super) fn to(graph: &Graph, target: u32) -> Self {
        let (starts, referrers) = reversed(graph);
        let mut next = vec![NONE; graph.len()];
        next[target as usize] = target;
        let (mut found, mut pending) = (Vec::new(), VecDeque::from([target]));
        while let Some(index) = pending.pop_front() {
            found.push(index);
            let (start, end) = (starts[index as usize], starts[index as usize + 1]);
            for referrer in &referrers[start as usize..end as usize] {
                if next[*referrer as usize] == NONE {
                    next[*referrer as usize] = index;
                    pending.push_back(*referrer);
                }
            }
        }
        Self { target, next, found }
    }

    /// Whether it leads to the target, or is it.
    pub(super) fn contains(&self, index: u32) -> bool {
        self.next[index as usize] != NONE
    }

    /// All that leads to the target, itself first, the nearest before the others.
    pub(super) fn indexes(&self) -> &[u32] {
        &self.found
    }

    /// A shortest way to the target, both ends left out.
    pub(super) fn way(&self, from: u32) -> Vec<u32> {
        let step = |index: &u32| Some(self.next[*index as usize]).filter(|next| *next != NONE);
        let steps = std::iter::successors(step(&from), step);
        steps.take_while(|index| *index != self.target).collect()
    }
}

/// Where the referrers of each object begin, and these.
fn reversed(graph: &Graph) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0_u32; graph.len() + 1];
    for index in graph.indexes() {
        for target in graph.refs(index) {
            starts[*target as usize + 1] += 1;
        }
    }
    for index in 1..starts.len() {
        starts[index] += starts[index - 1];
    }
    let mut places = starts.clone();
    let mut referrers = vec![0; starts.last().map_or(0, |count| *count as usize)];
    for index in graph.indexes() {
        for target in graph.refs(index) {
            let place = &mut places[*target as usize];
            referrers[*place as usize] = index;
            *place += 1;
        }
    }
    (starts, referrers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::marks::MarkRow;

    #[test]
    fn what_leads_there_is_found_with_its_shortest_way() {
        // 1 → 2 → 3 → 4 and 1 → 3; 5 → 5; 4 → 2 closes a circle.
        let mut graph = Graph::default();
        for (id, refs) in [(1, vec![2, 3]), (2, vec![3]), (3, vec![4]), (4, vec![2]), (5, vec![5])] {
            let (condemned_at, deleting, live, stored_size, narinfo) = (None, false, true, 1, true);
            graph.push(&MarkRow { id, refs, condemned_at, deleting, live, stored_size, narinfo }).unwrap();
        }
        graph.link();
        let back = Back::to(&graph, 3);
        assert_eq!(back.indexes(), [3, 2, 0, 1]);
        assert_eq!(back.way(0), [2]);
        assert_eq!(back.way(1), [2]);
        assert_eq!(back.way(3), [0_u32; 0]);
        assert!(!back.contains(4));
        assert_eq!(Back::to(&graph, 0).indexes(), [0]);
    }
}
