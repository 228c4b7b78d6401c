//! NUMA nodes: /sys/devices/system/node.

use std::path::Path;

use super::files::Files;
use super::pages;
use crate::model::host::NumaNode;

/// A list that names more CPUs than this is damaged: Linux has no host so large.
const MOST_CPUS: u32 = 65_536;

/// The nodes, by number; none on a kernel without NUMA.
pub(super) fn nodes(directory: &Path, files: &mut Files) -> Vec<NumaNode> {
    let number = |name: &str| name.strip_prefix("node")?.parse::<u32>().ok();
    let names = Files::names(directory).into_iter().filter_map(|name| Some((number(&name)?, directory.join(name))));
    let mut nodes: Vec<_> = names.map(|(number, path)| node(number, &path, files)).collect();
    nodes.sort_unstable_by_key(|node| node.node);
    nodes
}

fn node(node: u32, path: &Path, files: &mut Files) -> NumaNode {
    // A node without CPUs has an empty line.
    let cpus = files.text(&path.join("cpulist")).and_then(cpus);
    let info = files.text(&path.join("meminfo")).unwrap_or_default();
    let kib = |key: &str| {
        // `Node 0 MemTotal:       11233056 kB`
        let line = info.lines().find_map(|line| line.split_once(key).map(|(_, value)| value.trim()))?;
        line.strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let [memory_total_bytes, memory_free_bytes, memory_used_bytes] = [" MemTotal:", " MemFree:", " MemUsed:"].map(kib);
    let hugepages = pages::hugepages(&path.join("hugepages"), files);
    NumaNode { node, cpus, memory_total_bytes, memory_free_bytes, memory_used_bytes, hugepages }
}

/// `0-3,8,10-11`; `None` if it is no such list.
fn cpus(list: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in list.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if last >= MOST_CPUS || first > last {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Tree;
    use crate::model::host::Hugepages;

    #[test]
    fn nodes_have_cpus_memory_and_pools_of_their_own() {
        let tree = Tree::new(&[
            ("node10/cpulist", "\n"),
            ("node10/meminfo", "Node 10 MemTotal:  1000 kB\nNode 10 MemFree:  lots kB\n"),
            ("node0/cpulist", "0-2,8\n"),
            ("node0/meminfo", "Node 0 MemTotal:  64 kB\nNode 0 MemFree:   24 kB\nNode 0 MemUsed:   40 kB\n"),
            ("node0/hugepages/hugepages-2048kB/nr_hugepages", "5\n"),
            ("nodes/cpulist", "0\n"),
            ("online", "0,10\n"),
        ]);
        let nodes = nodes(tree.path(), &mut Files::default());
        let pool = Hugepages { size_bytes: 2 << 20, total: Some(5), ..Hugepages::default() };
        let expected = [
            NumaNode {
                node: 0,
                cpus: Some(vec![0, 1, 2, 8]),
                memory_total_bytes: Some(65_536),
                memory_free_bytes: Some(24_576),
                memory_used_bytes: Some(40_960),
                hugepages: vec![pool],
            },
            NumaNode { node: 10, cpus: Some(vec![]), memory_total_bytes: Some(1_024_000), ..NumaNode::default() },
        ];
        assert_eq!(nodes, expected);
        assert_eq!(super::nodes(&tree.path().join("nowhere"), &mut Files::default()), []);
    }

    #[test]
    fn a_list_that_makes_no_sense_is_none() {
        assert_eq!(cpus("0-1,4,6-7\n"), Some(vec![0, 1, 4, 6, 7]));
        for bad in ["a", "3-1", "0-", "0-4000000000", "1,x"] {
            assert_eq!(cpus(bad), None, "{bad}");
        }
    }
}
