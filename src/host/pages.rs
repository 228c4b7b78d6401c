//! Huge pages, merged pages and transparent huge pages: small files below /sys/kernel/mm.

use std::path::Path;

use super::files::Files;
use crate::model::host::{Hugepages, Ksm};

/// The pools in a directory with one `hugepages-…kB` a size, of the host or of a NUMA node; by size.
pub(super) fn hugepages(directory: &Path, files: &mut Files) -> Vec<Hugepages> {
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?.checked_mul(1024);
    let pools = Files::names(directory).into_iter().filter_map(|name| Some((size(&name)?, directory.join(name))));
    let mut pools: Vec<_> = pools
        .map(|(size_bytes, pool)| {
            let mut number = |file| files.number(&pool.join(file));
            Hugepages {
                size_bytes,
                total: number("nr_hugepages"),
                free: number("free_hugepages"),
                reserved: number("resv_hugepages"),
                surplus: number("surplus_hugepages"),
                ..Hugepages::default()
            }
        })
        .collect();
    pools.sort_unstable_by_key(|pool| pool.size_bytes);
    pools
}

/// The pools of the host, which can be set in more ways than those of a node.
pub(super) fn host_pools(directory: &Path, files: &mut Files) -> Vec<Hugepages> {
    let mut pools = hugepages(directory, files);
    for pool in &mut pools {
        let path = directory.join(format!("hugepages-{}kB", pool.size_bytes / 1024));
        pool.mempolicy = files.number(&path.join("nr_hugepages_mempolicy"));
        pool.overcommit = files.number(&path.join("nr_overcommit_hugepages"));
    }
    pools
}

/// `None` if the kernel cannot merge.
pub(super) fn ksm(directory: &Path, page_bytes: u64, files: &mut Files) -> Option<Ksm> {
    let mut number = |file| files.number(&directory.join(file));
    let ksm = Ksm {
        run: number("run"),
        pages_shared: number("pages_shared"),
        pages_sharing: number("pages_sharing"),
        pages_unshared: number("pages_unshared"),
        pages_volatile: number("pages_volatile"),
        full_scans: number("full_scans"),
        pages_to_scan: number("pages_to_scan"),
        merge_across_nodes: number("merge_across_nodes"),
        ..Ksm::default()
    };
    (ksm != Ksm::default()).then_some(Ksm { page_bytes, ..ksm })
}

/// The word in brackets: `always [madvise] never`.
pub(super) fn transparent(path: &Path, files: &mut Files) -> Option<Box<str>> {
    let (_, from) = files.text(path)?.split_once('[')?;
    Some(from.split_once(']')?.0.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Tree;

    #[test]
    fn pools_are_told_by_size_and_a_file_that_is_missing_costs_itself() {
        let tree = Tree::new(&[
            ("hugepages-1048576kB/nr_hugepages", "4\n"),
            ("hugepages-1048576kB/free_hugepages", "1\n"),
            ("hugepages-2048kB/nr_hugepages", "512\n"),
            ("hugepages-2048kB/free_hugepages", "many\n"),
            ("hugepages-2048kB/resv_hugepages", "3\n"),
            ("hugepages-2048kB/surplus_hugepages", "0\n"),
            ("hugepages-oddkB/nr_hugepages", "1\n"),
            ("other", ""),
        ]);
        let pools = hugepages(tree.path(), &mut Files::default());
        let expected = [
            Hugepages {
                size_bytes: 2 << 20,
                total: Some(512),
                free: None,
                reserved: Some(3),
                surplus: Some(0),
                ..Hugepages::default()
            },
            Hugepages {
                size_bytes: 1 << 30,
                total: Some(4),
                free: Some(1),
                reserved: None,
                surplus: None,
                ..Hugepages::default()
            },
        ];
        assert_eq!(pools, expected);
        assert_eq!(hugepages(&tree.path().join("nowhere"), &mut Files::default()), []);
        tree.write("hugepages-2048kB/nr_hugepages_mempolicy", "512\n");
        tree.write("hugepages-1048576kB/nr_overcommit_hugepages", "6\n");
        let more = host_pools(tree.path(), &mut Files::default());
        assert_eq!(more[0], Hugepages { mempolicy: Some(512), ..pools[0] });
        assert_eq!(more[1], Hugepages { overcommit: Some(6), ..pools[1] });
    }

    #[test]
    fn a_kernel_without_ksm_has_none() {
        let tree = Tree::new(&[
            ("run", "1\n"),
            ("pages_sharing", "200\n"),
            ("full_scans", "x"),
            ("pages_to_scan", "100\n"),
            ("merge_across_nodes", "0\n"),
        ]);
        let ksm = ksm(tree.path(), 4096, &mut Files::default()).expect("it has");
        assert_eq!((ksm.run, ksm.pages_sharing, ksm.full_scans), (Some(1), Some(200), None));
        assert_eq!((ksm.pages_to_scan, ksm.merge_across_nodes, ksm.page_bytes), (Some(100), Some(0), 4096));
        assert_eq!(super::ksm(&tree.path().join("nowhere"), 4096, &mut Files::default()), None);
    }

    #[test]
    fn the_mode_is_the_word_in_brackets() {
        let tree = Tree::new(&[("enabled", "always [madvise] never\n"), ("odd", "always\n"), ("half", "[never")]);
        let mut files = Files::default();
        let mut mode = |name: &str| transparent(&tree.path().join(name), &mut files);
        assert_eq!(mode("enabled").as_deref(), Some("madvise"));
        assert_eq!((mode("odd"), mode("half"), mode("missing")), (None, None, None));
    }
}
