//! The Merkle tree over all records (RFC 6962 §2.1), of which only the right edge is kept. Pure.
//!
//! In: lines. Out: the root at the present size. Never: I/O, or more memory than one hash per bit of the size.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::{Hash, push_hex, unhex};

/// The hash of a leaf: a line without its newline.
pub(super) fn leaf(line: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(line);
    hash.finalize().into()
}

pub(super) fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// A tree that grows to the right.
///
/// Invariant: `peaks` are the roots of the full subtrees that `size` is the sum of, largest first: one per bit that is
/// set in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub(super) struct Tree {
    size: u64,
    peaks: Vec<Hash>,
}

impl Tree {
    /// A tree of that size with those peaks, if it can have them.
    pub(super) fn of(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        // The sizes of records are their numbers: far below, but the next leaf must not overflow.
        (size != u64::MAX && peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// The roots of its full subtrees, largest first.
    pub(super) fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// How many leaves it has.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf.
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut right = leaf;
        // Each bit that carries joins two subtrees of the same size.
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.peaks.pop() else { break };
            right = node(&left, &right);
        }
        self.peaks.push(right);
        self.size += 1;
    }

    /// The tree over its leaves `from..to`, as far as it has them; `None` unless full subtrees begin and end there.
    pub(super) fn part(&self, from: u64, to: u64) -> Option<Self> {
        let to = to.min(self.size);
        let (mut at, mut first, mut last) = (0, None, None);
        for index in 0..=self.peaks.len() {
            first = first.or((at == from).then_some(index));
            last = last.or((at == to).then_some(index));
            // What is left of the size when its larger bits are taken away.
            let left = self.size - at;
            at += left.checked_ilog2().map_or(0, |bit| 1 << bit);
        }
        let peaks = self.peaks.get(first?..last?)?.to_vec();
        Some(Self { size: to.checked_sub(from)?, peaks })
    }

    /// The root over all leaves; of none, the hash of nothing.
    pub(super) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        match peaks.next() {
            Some(smallest) => peaks.fold(*smallest, |right, left| node(left, &right)),
            None => Sha256::digest([]).into(),
        }
    }
}

/// A tree as a segment's header has it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    size: u64,
    peaks: Vec<String>,
}

impl From<Tree> for Written {
    fn from(tree: Tree) -> Self {
        let digits = |hash: &Hash| {
            let mut out = Vec::new();
            push_hex(hash, &mut out);
            String::from_utf8(out).unwrap_or_default()
        };
        Self { size: tree.size, peaks: tree.peaks.iter().map(digits).collect() }
    }
}

impl TryFrom<Written> for Tree {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let peaks = written.peaks.iter().map(|text| unhex(text)).collect::<Result<Vec<_>, _>>();
        let peaks = peaks.map_err(|_| "a peak is 64 hex digits")?;
        Self::of(written.size, peaks).ok_or("a tree has one peak for each bit of its size")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1 as it stands there.
    fn recursive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => *leaf,
            _ => {
                let split = 1 << (leaves.len() - 1).ilog2();
                node(&recursive(&leaves[..split]), &recursive(&leaves[split..]))
            }
        }
    }

    #[test]
    fn roots_are_those_of_certificate_transparency() {
        // The reference leaves and tree heads of Certificate Transparency's own tests.
        let leaves =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Tree::default();
        for (size, root) in roots.into_iter().enumerate() {
            assert_eq!((tree.size(), hex::encode(tree.root())), (size as u64, root.to_owned()));
            if let Some(bytes) = leaves.get(size) {
                tree.push(leaf(&hex::decode(bytes).unwrap()));
            }
        }
    }

    #[test]
    fn it_grows_as_the_rfc_recursion_says_and_is_resumed_at_any_size() {
        let leaves: Vec<Hash> = (0..300u32).map(|n| leaf(&n.to_be_bytes())).collect();
        let mut tree = Tree::default();
        for size in 0..=leaves.len() {
            assert_eq!(tree.root(), recursive(&leaves[..size]), "{size} leaves");
            assert_eq!(tree.peaks.len() as u32, tree.size().count_ones());
            let text = serde_json::to_string(&tree).unwrap();
            assert_eq!(serde_json::from_str::<Tree>(&text).unwrap(), tree, "{text}");
            if let Some(leaf) = leaves.get(size) {
                tree.push(*leaf);
            }
        }
    }

    #[test]
    fn a_frontier_that_cannot_be_is_refused() {
        let hash = "00".repeat(32);
        for (size, peaks, fits) in [
            (0, vec![], true),
            (2, vec![hash.clone()], true),
            (0, vec![hash.clone()], false),
            (3, vec![hash.clone()], false),
            (4, vec![], false),
            (1, vec![hash[2..].to_owned()], false),
            (1, vec!["AB".repeat(32)], false),
            (u64::MAX, vec![hash.clone(); 64], false),
        ] {
            let text = serde_json::json!({ "size": size, "peaks": peaks }).to_string();
            assert_eq!(serde_json::from_str::<Tree>(&text).is_ok(), fits, "{text}");
        }
    }
}
