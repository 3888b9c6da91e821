//! The root of a list as a trie holds it: of transactions, receipts and withdrawals. Its nodes are hashed several at a time.
//!
//! The key of an item is the RLP of its index, its value the item. No key is the beginning of another, so a branch has no value.
//! Source: Yellow Paper, appendix D, and section 4.3.2 for the keys.

use alloy_primitives::B256;
use alloy_rlp::Encodable;
use alloy_trie::EMPTY_ROOT_HASH;
use cairn_net::keccak::hash_each;

use super::rlp;

/// Nodes that are laid out at once, in bytes: enough of them to go side by side, and few enough to stay in the second cache.
const BATCH_BYTES: usize = 256 << 10;

/// The root of these items in their order, or the empty trie's.
pub(crate) fn ordered_root(items: &[&[u8]]) -> B256 {
    if items.is_empty() {
        return EMPTY_ROOT_HASH;
    }
    let mut trie = Trie {
        items,
        keys: keys(items.len()),
        nodes: Vec::with_capacity(items.len() * 5 / 4),
        heights: Vec::new(),
    };
    let (root, _) = trie.plant(0, items.len(), 0);
    let mut references = vec![Reference::own(&[]); trie.nodes.len()];
    let mut batch = Batch::default();
    for nodes in &trie.heights {
        let mut rest = &nodes[..];
        while !rest.is_empty() {
            batch.clear();
            let mut taken = 0;
            while taken < rest.len() && batch.bytes.len() < BATCH_BYTES {
                trie.lay_out(rest[taken], &references, &mut batch);
                taken += 1;
            }
            batch.hash();
            let (now, later) = rest.split_at(taken);
            for (at, node) in now.iter().enumerate() {
                references[*node] = match batch.node(at) {
                    short if short.len() < 32 && *node != root => Reference::own(short),
                    _ => Reference::hash(&batch.hashes[at]),
                };
            }
            rest = later;
        }
    }
    B256::from_slice(&references[root].bytes[1..])
}

/// The key of an index, a nibble a byte.
#[derive(Clone, Copy)]
struct Key {
    index: usize,
    nibbles: [u8; 18],
    len: usize,
}

impl Key {
    fn nibbles(&self) -> &[u8] {
        &self.nibbles[..self.len]
    }
}

/// The keys in their order: what is RLP as it is, then 0, which is 0x80, then what has a prefix.
fn keys(count: usize) -> Vec<Key> {
    let order = (1..count.min(0x80)).chain([0]).chain(0x80..count);
    order
        .map(|index| {
            let bytes = alloy_rlp::encode_fixed_size(&index);
            let mut nibbles = [0; 18];
            for (pair, byte) in nibbles.as_chunks_mut().0.iter_mut().zip(&bytes) {
                *pair = [byte >> 4, byte & 15];
            }
            Key {
                index,
                nibbles,
                len: 2 * bytes.len(),
            }
        })
        .collect()
}

/// A node, by places in the keys and other nodes.
enum Node {
    /// What is left of this key from a depth on, and its item.
    Leaf { at: usize, depth: usize },
    /// The nibbles of this key in a range, which all below have.
    Extension {
        at: usize,
        from: usize,
        to: usize,
        child: usize,
    },
    /// By the next nibble.
    Branch { children: Box<[Option<usize>; 16]> },
}

struct Trie<'a> {
    items: &'a [&'a [u8]],
    keys: Vec<Key>,
    nodes: Vec<Node>,
    /// Nodes by the height of what is below them: each needs only those of lesser heights.
    heights: Vec<Vec<usize>>,
}

impl Trie<'_> {
    /// Makes the nodes of the keys `first..end`, which have their first `depth` nibbles in common; gives the topmost and its height.
    fn plant(&mut self, first: usize, end: usize, depth: usize) -> (usize, usize) {
        if end - first == 1 {
            return self.add(Node::Leaf { at: first, depth }, 0);
        }
        let (low, high) = (self.keys[first], self.keys[end - 1]);
        let rest = low.nibbles()[depth..].iter().zip(&high.nibbles()[depth..]);
        let to = depth + rest.take_while(|(a, b)| a == b).count();
        if to > depth {
            let (child, height) = self.plant(first, end, to);
            let node = Node::Extension {
                at: first,
                from: depth,
                to,
                child,
            };
            return self.add(node, height + 1);
        }
        let mut children = Box::new([None; 16]);
        let (mut at, mut most) = (first, 0);
        while at < end {
            let nibble = self.keys[at].nibbles[depth];
            let run = self.keys[at..end]
                .iter()
                .take_while(|key| key.nibbles[depth] == nibble)
                .count();
            let (child, height) = self.plant(at, at + run, depth + 1);
            children[usize::from(nibble)] = Some(child);
            most = most.max(height);
            at += run;
        }
        self.add(Node::Branch { children }, most + 1)
    }

    fn add(&mut self, node: Node, height: usize) -> (usize, usize) {
        let id = self.nodes.len();
        self.nodes.push(node);
        if self.heights.len() <= height {
            self.heights.resize(height + 1, Vec::new());
        }
        self.heights[height].push(id);
        (id, height)
    }

    /// Appends a node's RLP.
    fn lay_out(&self, node: usize, references: &[Reference], batch: &mut Batch) {
        let out = &mut batch.bytes;
        match &self.nodes[node] {
            Node::Leaf { at, depth } => {
                let key = &self.keys[*at];
                let path = Path::new(&key.nibbles()[*depth..], true);
                let item = self.items[key.index];
                rlp::list_prefix(out, path.rlp_bytes() + item.length());
                path.append(out);
                item.encode(out);
            }
            Node::Extension {
                at,
                from,
                to,
                child,
            } => {
                let path = Path::new(&self.keys[*at].nibbles[*from..*to], false);
                let child = references[*child].as_slice();
                rlp::list_prefix(out, path.rlp_bytes() + child.len());
                path.append(out);
                out.extend_from_slice(child);
            }
            Node::Branch { children } => {
                const NOTHING: &[u8] = &[alloy_rlp::EMPTY_STRING_CODE];
                let children = children
                    .iter()
                    .map(|child| child.map_or(NOTHING, |child| references[child].as_slice()));
                let payload_bytes = children.clone().map(<[u8]>::len).sum::<usize>();
                rlp::list_prefix(out, payload_bytes + NOTHING.len());
                children.for_each(|child| out.extend_from_slice(child));
                out.extend_from_slice(NOTHING);
            }
        }
        batch.ends.push(batch.bytes.len());
    }
}

/// Nibbles packed as a node has them, with a flag for a leaf (appendix C).
struct Path {
    bytes: [u8; 10],
    len: usize,
}

impl Path {
    fn new(nibbles: &[u8], is_leaf: bool) -> Path {
        let mut bytes = [0; 10];
        bytes[0] = if is_leaf { 0x20 } else { 0 };
        let (odd, pairs) = nibbles.split_at(nibbles.len() % 2);
        if let [nibble] = odd {
            bytes[0] |= 0x10 | nibble;
        }
        for (byte, [high, low]) in bytes[1..].iter_mut().zip(pairs.as_chunks().0) {
            *byte = (high << 4) | low;
        }
        Path {
            bytes,
            len: 1 + nibbles.len() / 2,
        }
    }

    fn rlp_bytes(&self) -> usize {
        self.bytes[..self.len].length()
    }

    fn append(&self, out: &mut Vec<u8>) {
        self.bytes[..self.len].encode(out);
    }
}

/// A node as the one above it has it: its hash as a string, or itself if it is shorter than a hash.
#[derive(Clone, Copy)]
struct Reference {
    bytes: [u8; 33],
    len: usize,
}

impl Reference {
    fn own(node: &[u8]) -> Reference {
        let mut bytes = [0; 33];
        bytes[..node.len()].copy_from_slice(node);
        Reference {
            bytes,
            len: node.len(),
        }
    }

    fn hash(hash: &B256) -> Reference {
        let mut bytes = [alloy_rlp::EMPTY_STRING_CODE + 32; 33];
        bytes[1..].copy_from_slice(&hash[..]);
        Reference { bytes, len: 33 }
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Nodes laid out end to end, and their hashes.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    hashes: Vec<B256>,
}

impl Batch {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn node(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start..self.ends[at]]
    }

    fn hash(&mut self) {
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.resize(self.ends.len(), B256::ZERO);
        let nodes: Vec<&[u8]> = (0..self.ends.len()).map(|at| self.node(at)).collect();
        hash_each(&nodes, &mut hashes);
        self.hashes = hashes;
    }
}

#[cfg(test)]
mod tests {
    use alloy_trie::root::ordered_trie_root_encoded;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    fn check(lengths: impl Iterator<Item = usize>, rng: &mut ChaCha8Rng) {
        let items: Vec<Vec<u8>> = lengths
            .map(|len| {
                let mut item = vec![0; len];
                rng.fill_bytes(&mut item);
                item
            })
            .collect();
        let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
        let lengths: Vec<usize> = items.iter().map(|item| item.len()).collect();
        assert_eq!(
            ordered_root(&items),
            ordered_trie_root_encoded(&items),
            "{} items of {lengths:?}",
            items.len()
        );
    }

    #[test]
    fn the_root_of_any_count_of_items_is_that_of_alloy_trie() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for count in (0..300).chain([0xfff, 0x1000, 0x1001, 0xffff, 0x1_0000, 0x1_0001]) {
            check((0..count).map(|at| 100 + at % 9), &mut rng);
        }
    }

    #[test]
    fn the_root_of_items_of_any_length_is_that_of_alloy_trie() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..2000 {
            // Short ones stand in their parents as they are.
            let longest = [2, 30, 70, 300, 5000][rng.next_u32() as usize % 5];
            let count = rng.next_u32() as usize % 40;
            let lengths: Vec<usize> = (0..count)
                .map(|_| rng.next_u32() as usize % longest)
                .collect();
            check(lengths.into_iter(), &mut rng);
        }
        check([1 << 16, 1 << 24, 3].into_iter(), &mut rng);
    }
}
