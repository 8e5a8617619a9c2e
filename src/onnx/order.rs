//! The order in which nodes run.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::messages::GraphProto;

/// Puts each node behind those whose results it reads. ONNX demands that of a file, but some programs append nodes that
/// belong before others (onnxruntime's `convert_float_to_float16`), and onnxruntime sorts by itself.
///
/// Nodes that are in order stay where they are. Those that read their own results, through others or not, come last.
pub(super) fn sort(graph: &mut GraphProto) {
    let nodes = &graph.node;
    let mut producers = HashMap::new();
    for (at, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            producers.entry(output.as_str()).or_insert(at);
        }
    }
    let mut readers = vec![Vec::new(); nodes.len()];
    let mut missing = vec![0usize; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        for &producer in node.input.iter().filter_map(|input| producers.get(input.as_str())) {
            readers[producer].push(at);
            missing[at] += 1;
        }
    }
    let mut ready: BinaryHeap<_> = (0..nodes.len()).filter(|at| missing[*at] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for &reader in &readers[at] {
            missing[reader] -= 1;
            if missing[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    order.extend((0..nodes.len()).filter(|at| missing[*at] > 0));
    graph.node = order.into_iter().map(|at| std::mem::take(&mut graph.node[at])).collect();
}

#[cfg(test)]
#[cfg(not(target_family = "wasm"))]
mod tests {
    use super::*;
    use crate::onnx::messages::NodeProto;

    fn sorted(nodes: &[(&[&str], &str)]) -> String {
        let node = |(inputs, output): &(&[&str], &str)| NodeProto {
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![(*output).into()],
            ..Default::default()
        };
        let mut graph = GraphProto { node: nodes.iter().map(node).collect(), ..Default::default() };
        sort(&mut graph);
        graph.node.iter().map(|node| node.output[0].as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn nodes_run_behind_what_they_read() {
        assert_eq!(sorted(&[(&["x"], "b"), (&["x", ""], "a"), (&["a", "b"], "c")]), "b a c", "in order already");
        assert_eq!(sorted(&[(&["c", "c"], "d"), (&["x", "b"], "c"), (&["x"], "a"), (&["a"], "b")]), "a b c d");
        assert_eq!(
            sorted(&[(&["b"], "a"), (&["a"], "b"), (&["d"], "c"), (&["x"], "d"), (&["e"], "e")]),
            "d c a b e"
        );
    }
}
