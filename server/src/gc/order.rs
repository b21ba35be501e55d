//! In which order objects are deleted: what refers to something goes before it. Pure.

use super::bits::BitSet;
use super::graph::Graph;

/// These objects in rounds: each comes in a later one than all of them that lead to it, so that at no moment one is there
/// that leads to what is gone. What leads to each other, which Nix never makes, comes in one.
pub(super) fn rounds(graph: &Graph, objects: &[u32]) -> Vec<Vec<u32>> {
    let mut wanted = BitSet::new(graph.len());
    for index in objects {
        wanted.insert(*index);
    }
    let Components { members, of } = components(graph, objects, &wanted);
    let mut round_of = vec![0; graph.len()];
    let mut rounds: Vec<Vec<u32>> = Vec::new();
    for component in members.chunk_by(|one, other| of[*one as usize] == of[*other as usize]).rev() {
        let round = component.iter().map(|index| round_of[*index as usize]).max().unwrap_or(0);
        if rounds.len() <= round {
            rounds.resize(round + 1, Vec::new());
        }
        rounds[round].extend(component);
        for index in component {
            for target in graph.refs(*index).iter().filter(|target| wanted.contains(**target)) {
                if of[*target as usize] != of[*index as usize] {
                    let earliest = &mut round_of[*target as usize];
                    *earliest = (round + 1).max(*earliest);
                }
            }
        }
    }
    rounds
}

/// Which objects lead to each other.
struct Components {
    /// All, each component together, and after all components that it leads to.
    members: Vec<u32>,
    /// The number of each object's component.
    of: Vec<u32>,
}

/// Tarjan's algorithm, without recursion: chains may be long.
fn components(graph: &Graph, objects: &[u32], wanted: &BitSet) -> Components {
    // When each was met, from 1, and the earliest of those on the way that it leads back to; then its component.
    let (mut met, mut of) = (vec![0_u32; graph.len()], vec![0_u32; graph.len()]);
    let (mut open, mut is_open) = (Vec::new(), BitSet::new(graph.len()));
    let (mut members, mut count) = (Vec::with_capacity(objects.len()), 0);
    // The way from a first object to where the search is, with how many references of each were followed.
    let mut way: Vec<(u32, u32)> = Vec::new();
    for first in objects {
        let mut next = Some(*first).filter(|first| met[*first as usize] == 0);
        loop {
            if let Some(index) = next.take() {
                count += 1;
                (met[index as usize], of[index as usize]) = (count, count);
                open.push(index);
                is_open.insert(index);
                way.push((index, 0));
            }
            let Some((index, followed)) = way.last_mut() else { break };
            let index = *index;
            if let Some(target) = graph.refs(index).get(*followed as usize).copied() {
                *followed += 1;
                if !wanted.contains(target) {
                } else if met[target as usize] == 0 {
                    next = Some(target);
                } else if is_open.contains(target) {
                    of[index as usize] = of[index as usize].min(met[target as usize]);
                }
                continue;
            }
            way.pop();
            let earliest = of[index as usize];
            if let Some((from, _)) = way.last() {
                of[*from as usize] = of[*from as usize].min(earliest);
            }
            if earliest == met[index as usize] {
                let start = open.iter().rposition(|member| *member == index).unwrap_or(0);
                for member in open.drain(start..) {
                    is_open.remove(member);
                    of[member as usize] = earliest;
                    members.push(member);
                }
            }
        }
    }
    Components { members, of }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::db::marks::MarkRow;

    fn graph(refs: impl IntoIterator<Item = Vec<i64>>) -> Graph {
        let mut graph = Graph::default();
        for (id, refs) in (0..).zip(refs) {
            let (condemned_at, deleting, live, stored_size, narinfo) = (None, false, true, 1, true);
            graph.push(&MarkRow { id, refs, condemned_at, deleting, live, stored_size, narinfo }).unwrap();
        }
        graph.link();
        graph
    }

    fn sorted(mut rounds: Vec<Vec<u32>>) -> Vec<Vec<u32>> {
        for round in &mut rounds {
            round.sort_unstable();
        }
        rounds
    }

    #[test]
    fn what_refers_goes_first_and_circles_go_together() {
        // 0 → 1 → 3 and 0 → 2 → 1; 4 → 4; 5 → 6 → 5, 6 → 3; 7 leads to 5.
        let graph = graph([vec![1, 2], vec![3], vec![1], vec![], vec![4], vec![6], vec![5, 3], vec![5]]);
        let all: Vec<u32> = graph.indexes().collect();
        assert_eq!(sorted(rounds(&graph, &all)), [vec![0, 4, 7], vec![2, 5, 6], vec![1], vec![3]]);
        // What is not among them does not count.
        assert_eq!(sorted(rounds(&graph, &[6, 0, 1])), [vec![0, 6], vec![1]]);
        assert_eq!(rounds(&graph, &[]), [[0_u32; 0]; 0]);
    }

    #[test]
    fn a_chain_of_a_hundred_thousand_has_as_many_rounds() {
        let graph = graph((1..=100_000).map(|next| vec![next]));
        let all: Vec<u32> = graph.indexes().rev().collect();
        let rounds = rounds(&graph, &all);
        assert_eq!((rounds.len(), rounds[7].as_slice()), (100_000, &[7][..]));
    }

    proptest! {
        #[test]
        fn nothing_goes_before_what_leads_to_it(
            edges in prop::collection::vec((0_i64..30, 0_i64..30), 0..60), of in prop::collection::vec(any::<bool>(), 30),
        ) {
            let to = |from| edges.iter().filter(|(source, _)| *source == from).map(|(_, to)| *to).collect();
            let graph = graph((0..30).map(to));
            let objects: Vec<u32> = graph.indexes().filter(|index| of[*index as usize]).collect();
            let rounds = rounds(&graph, &objects);
            let mut all = rounds.concat();
            all.sort_unstable();
            prop_assert_eq!(&all, &objects);
            prop_assert!(rounds.iter().all(|round| !round.is_empty()));
            let round_of = |index: u32| rounds.iter().position(|round| round.contains(&index)).unwrap();
            // What of these each leads to by way of these alone.
            let leads = |from: u32| {
                let mut met = vec![from];
                let mut next = 0;
                while next < met.len() {
                    for to in graph.refs(met[next]) {
                        if objects.contains(to) && !met.contains(to) {
                            met.push(*to);
                        }
                    }
                    next += 1;
                }
                met
            };
            for from in &objects {
                for to in leads(*from) {
                    if leads(to).contains(from) {
                        prop_assert_eq!(round_of(*from), round_of(to));
                    } else {
                        prop_assert!(round_of(*from) < round_of(to), "{from} leads to {to}");
                    }
                }
            }
        }
    }
}
