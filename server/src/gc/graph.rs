//! The reference graph of one snapshot, in memory: dense indexes and bit sets. Pure.

use std::ops::Range;

use time::OffsetDateTime;

use super::GcError;
use super::bits::BitSet;
use crate::db::marks::MarkRow;

/// Objects by index, in the order of their ids, and what each refers to.
#[derive(Debug, Default)]
pub(super) struct Graph {
    ids: Vec<i64>,
    /// Where each object's references begin; one more entry at the end.
    starts: Vec<u32>,
    /// Distances of ids from the first id until [`Graph::link`], indexes afterwards.
    refs: Vec<u32>,
    /// Condemned objects, since when, in order of index; claimed ones are not among them.
    pub(super) condemned: Vec<(u32, OffsetDateTime)>,
    /// Bytes in the bucket.
    sizes: Vec<i64>,
    pub(super) live: BitSet,
    pub(super) claimed: BitSet,
    pub(super) narinfos: BitSet,
}

impl Graph {
    /// Adds an object; ids must come in ascending order.
    pub(super) fn push(&mut self, row: &MarkRow) -> Result<(), GcError> {
        let too_large = || GcError::Graph("more objects than a collection can hold in memory".to_owned());
        let index = u32::try_from(self.ids.len()).map_err(|_| too_large())?;
        self.starts.push(u32::try_from(self.refs.len()).map_err(|_| too_large())?);
        self.ids.push(row.id);
        self.sizes.push(row.stored_size);
        for target in &row.refs {
            // A reference below the first id leads to no row.
            if let Ok(distance) = u64::try_from(target - self.ids[0]) {
                self.refs.push(u32::try_from(distance).map_err(|_| too_large())?);
            }
        }
        for (is, set) in
            [(row.narinfo, &mut self.narinfos), (row.live, &mut self.live), (row.deleting, &mut self.claimed)]
        {
            if is {
                set.insert(index);
            }
        }
        if let Some(since) = row.condemned_at.filter(|_| !row.deleting) {
            self.condemned.push((index, since));
        }
        Ok(())
    }

    /// Turns references into indexes. One that leads to no row becomes a reference to the object itself.
    pub(super) fn link(&mut self) {
        self.starts.push(u32::try_from(self.refs.len()).unwrap_or(u32::MAX));
        let Some(first) = self.ids.first().copied() else { return };
        for index in 0..self.ids.len() {
            let (start, end) = (self.starts[index] as usize, self.starts[index + 1] as usize);
            for position in start..end {
                let target = first + i64::from(self.refs[position]);
                self.refs[position] =
                    self.index_of(target).unwrap_or(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, index: u32) -> i64 {
        self.ids[index as usize]
    }

    /// Interpolation before bisection: ids are nearly dense.
    pub(super) fn index_of(&self, id: i64) -> Option<u32> {
        let first = *self.ids.first()?;
        let guess = usize::try_from(id - first).ok()?.min(self.ids.len() - 1);
        let found = if self.ids[guess] == id { guess } else { self.ids[..guess].binary_search(&id).ok()? };
        u32::try_from(found).ok()
    }

    /// All indexes.
    pub(super) fn indexes(&self) -> Range<u32> {
        0..u32::try_from(self.ids.len()).unwrap_or(u32::MAX)
    }

    /// Bytes in the bucket.
    pub(super) fn size(&self, index: u32) -> i64 {
        self.sizes[index as usize]
    }

    /// What it refers to.
    pub(super) fn refs(&self, index: u32) -> &[u32] {
        let (start, end) = (self.starts[index as usize], self.starts[index as usize + 1]);
        &self.refs[start as usize..end as usize]
    }

    /// Adds everything a root reaches, itself included; gives the bytes of what is new.
    pub(super) fn extend(&self, reached: &mut BitSet, root: u32) -> i64 {
        let mut pending = Vec::new();
        let mut bytes = 0;
        if reached.insert(root) {
            pending.push(root);
        }
        while let Some(index) = pending.pop() {
            bytes += self.size(index);
            pending.extend(self.refs(index).iter().filter(|target| reached.insert(**target)));
        }
        bytes
    }

    /// The same, and says what is new.
    pub(super) fn extend_noting(&self, reached: &mut BitSet, root: u32, new: &mut Vec<u32>) -> i64 {
        let (mut next, mut bytes) = (new.len(), 0);
        if reached.insert(root) {
            new.push(root);
        }
        while let Some(index) = new.get(next).copied() {
            next += 1;
            bytes += self.size(index);
            new.extend(self.refs(index).iter().filter(|target| reached.insert(**target)));
        }
        bytes
    }

    /// The bytes that of these roots each alone reaches, in their order; only of what `counts`.
    pub(super) fn unique_bytes(&self, roots: &[u32], counts: impl Fn(u32) -> bool) -> Vec<i64> {
        const NONE: u32 = u32::MAX;
        const MANY: u32 = u32::MAX - 1;
        let mut owners = vec![NONE; self.len()];
        let mut pending = Vec::new();
        for (number, root) in (0_u32..).zip(roots) {
            pending.push((*root, number));
            while let Some((index, mark)) = pending.pop() {
                if !counts(index) {
                    continue;
                }
                let owner = &mut owners[index as usize];
                // What has an owner has been followed for it: all it reaches has one too.
                let mark = match (*owner, mark) {
                    (MANY, _) => continue,
                    (NONE, mark) => mark,
                    (owner, mark) if owner == mark => continue,
                    _ => MANY,
                };
                *owner = mark;
                pending.extend(self.refs(index).iter().map(|target| (*target, mark)));
            }
        }
        let mut bytes = vec![0; roots.len()];
        for index in self.indexes() {
            if let Some(sum) = bytes.get_mut(owners[index as usize] as usize) {
                *sum += self.size(index);
            }
        }
        bytes
    }

    /// Everything the roots reach, themselves included.
    pub(super) fn reachable(&self, roots: impl IntoIterator<Item = u32>) -> BitSet {
        let mut reached = BitSet::new(self.len());
        for root in roots {
            self.extend(&mut reached, root);
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph(objects: &[(i64, Vec<i64>)]) -> Graph {
        let mut graph = Graph::default();
        for (id, refs) in objects {
            let (id, refs) = (*id, refs.clone());
            let (condemned_at, deleting, live, stored_size, narinfo) = (None, false, true, 1, false);
            graph.push(&MarkRow { id, refs, condemned_at, deleting, live, stored_size, narinfo }).unwrap();
        }
        graph.link();
        graph
    }

    fn reached(graph: &Graph, roots: &[i64]) -> Vec<i64> {
        let set = graph.reachable(roots.iter().filter_map(|id| graph.index_of(*id)));
        graph.indexes().filter(|i| set.contains(*i)).map(|i| graph.id(i)).collect()
    }

    #[test]
    fn follows_cycles_and_forward_references_over_gaps() {
        let graph =
            graph(&[(3, vec![900]), (7, vec![3]), (10, vec![]), (900, vec![7, 900]), (901, vec![10])]);
        assert_eq!(reached(&graph, &[3]), [3, 7, 900]);
        assert_eq!(reached(&graph, &[901]), [10, 901]);
        assert_eq!(reached(&graph, &[5]), Vec::<i64>::new());
    }

    #[test]
    fn a_reference_to_no_row_leads_nowhere() {
        let graph = graph(&[(5, vec![1, 6, 99]), (7, vec![])]);
        assert_eq!(reached(&graph, &[5]), [5]);
    }

    #[test]
    fn unique_bytes_are_those_one_root_alone_reaches() {
        // 1 and 2 share 4, which leads to 5; 3 is 1's alone; 6 is nobody's. All take one byte.
        let graph =
            graph(&[(1, vec![3, 4]), (2, vec![4]), (3, vec![1]), (4, vec![5]), (5, vec![]), (6, vec![])]);
        assert_eq!(graph.unique_bytes(&[0, 1], |_| true), [2, 1]);
        assert_eq!(graph.unique_bytes(&[1, 0, 3], |_| true), [1, 2, 0]);
        assert_eq!(graph.unique_bytes(&[0, 1], |index| index > 0), [0, 3]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_search(
            edges in prop::collection::vec((1_i64..60, 1_i64..60), 0..120), root in 1_i64..60, skip in 2_i64..7,
        ) {
            let ids: Vec<i64> = (1..60).filter(|id| id % skip != 0).collect();
            let objects: Vec<(i64, Vec<i64>)> = ids
                .iter()
                .map(|id| (*id, edges.iter().filter(|(from, _)| from == id).map(|(_, to)| *to).collect()))
                .collect();
            let mut expected: Vec<i64> = ids.iter().copied().filter(|id| *id == root).collect();
            let mut next = 0;
            while next < expected.len() {
                let from = expected[next];
                next += 1;
                for (_, to) in edges.iter().filter(|(source, _)| *source == from) {
                    if ids.contains(to) && !expected.contains(to) {
                        expected.push(*to);
                    }
                }
            }
            expected.sort_unstable();
            prop_assert_eq!(reached(&graph(&objects), &[root]), expected);
        }
    }
}
