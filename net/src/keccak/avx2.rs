//! Keccak-f[1600] on four states at once: each vector of AVX2 has the same lane of all four.
//!
//! Source: FIPS 202, sections 3.2 and 3.3; the step mappings have their names from there.
#![allow(unsafe_code)] // instructions that not every machine has: see `Avx2`

use std::arch::x86_64::*;
use std::array::from_fn;
use std::cmp::Reverse;
use std::hint::black_box;

use alloy_primitives::B256;

use super::{BLOCK_BYTES, Block, Keccak256, Lanes};

/// How many states go side by side.
const WIDTH: usize = 4;

/// FIPS 202, section 3.2.5.
const ROUND_CONSTANTS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// A machine that has AVX2. That there is one of these is what makes the calls in here sound.
#[derive(Clone, Copy)]
pub(super) struct Avx2(());

impl Avx2 {
    /// Asks the processor.
    pub(super) fn find() -> Option<Avx2> {
        is_x86_feature_detected!("avx2").then_some(Avx2(()))
    }

    /// Takes the bytes as far as two or more neighbours of four have a block to fill; the rest is left in `streams`.
    pub(super) fn update_each(self, streams: &mut [(&mut Keccak256, &[u8])]) {
        for group in streams.chunks_mut(WIDTH) {
            // SAFETY: the processor has AVX2
            unsafe { update_group(group) }
        }
    }

    /// The hash of each message.
    pub(super) fn hash_each(self, messages: &[&[u8]], hashes: &mut [B256]) {
        // SAFETY: the processor has AVX2
        unsafe { hash_each(messages, hashes) }
    }
}

#[target_feature(enable = "avx2")]
fn update_group(group: &mut [(&mut Keccak256, &[u8])]) {
    loop {
        let due = |(state, bytes): &(&mut Keccak256, &[u8])| {
            (state.taken_bytes + bytes.len()) / BLOCK_BYTES
        };
        let is_due = |stream: &&mut (&mut Keccak256, &[u8])| due(stream) > 0;
        let mut busy = group.iter_mut().filter(is_due);
        let mut places: [_; WIDTH] = from_fn(|_| busy.next());
        let Some(permutations) = places.iter().flatten().map(|stream| due(stream)).min() else {
            return;
        };
        if places[1].is_none() {
            return; // alone it is faster one wide
        }

        // The block under way is filled first, so that after it all have whole blocks.
        let mut idle: [Lanes; WIDTH] = [[0; 25]; WIDTH];
        let mut blocks: [&[Block]; WIDTH] = [&[]; WIDTH];
        for (place, blocks) in places.iter_mut().zip(&mut blocks) {
            if let Some((state, bytes)) = place {
                let rest = state.fill(bytes);
                let (now, rest) = rest.split_at((permutations - 1) * BLOCK_BYTES);
                *blocks = now.as_chunks().0;
                *bytes = rest;
                state.taken_bytes = 0;
            }
        }
        let blocks = blocks.map(|of| if of.is_empty() { blocks[0] } else { of });
        let mut places = places.iter_mut().zip(&mut idle);
        let mut next = || match places.next().expect("one for each of the width") {
            (Some((state, _)), _) => &mut state.lanes,
            (None, idle) => idle,
        };
        let lanes = [next(), next(), next(), next()];

        let mut wide = Wide::load(&lanes);
        wide.permute();
        let [a, b, c, d] = blocks.map(<[Block]>::iter);
        for (((a, b), c), d) in a.zip(b).zip(c).zip(d) {
            wide.xor([a, b, c, d]);
            wide.permute();
        }
        wide.store(lanes);
    }
}

#[target_feature(enable = "avx2")]
fn hash_each(messages: &[&[u8]], hashes: &mut [B256]) {
    // The longest go first, so that none is left at the end to go on alone.
    let mut waiting: Vec<(&[u8], &mut B256)> = messages.iter().copied().zip(hashes).collect();
    waiting.sort_unstable_by_key(|(message, _)| Reverse(message.len()));
    let mut waiting = waiting.into_iter();
    let mut places: [Option<(&[u8], &mut B256)>; WIDTH] = [const { None }; WIDTH];
    let mut wide = Wide::zero();
    let mut last: [Block; WIDTH] = [[0; BLOCK_BYTES]; WIDTH];
    loop {
        let mut keep = [u64::MAX; WIDTH];
        for (place, keep) in places.iter_mut().zip(&mut keep) {
            if place.is_none()
                && let Some((message, hash)) = waiting.next()
            {
                *place = Some((message, hash));
                *keep = 0;
            }
        }
        wide.and(keep);
        let busy = places.iter().flatten().count();
        if busy < 2 {
            // alone it is faster one wide
            if let Some(at) = places.iter().position(Option::is_some)
                && let Some((rest, hash)) = places[at].take()
            {
                let mut state = Keccak256 {
                    lanes: wide.lanes(at),
                    taken_bytes: 0,
                };
                state.update(rest);
                *hash = state.finalize();
            }
            return;
        }

        let mut blocks: [Option<&Block>; WIDTH] = [None; WIDTH];
        for ((place, block), last) in places.iter_mut().zip(&mut blocks).zip(&mut last) {
            if let Some((rest, _)) = place {
                match rest.split_first_chunk() {
                    Some((whole, after)) => {
                        *block = Some(whole);
                        *rest = after;
                    }
                    None => {
                        last[..rest.len()].copy_from_slice(rest);
                        last[rest.len()..].fill(0);
                        last[rest.len()] ^= 0x01;
                        last[BLOCK_BYTES - 1] ^= 0x80;
                    }
                }
            }
        }
        let [a, b, c, d] = blocks;
        wide.xor([
            a.unwrap_or(&last[0]),
            b.unwrap_or(&last[1]),
            c.unwrap_or(&last[2]),
            d.unwrap_or(&last[3]),
        ]);
        wide.permute();
        if blocks.contains(&None) {
            let found = wide.hashes();
            for ((place, found), block) in places.iter_mut().zip(found).zip(blocks) {
                if block.is_none()
                    && let Some((_, hash)) = place.take()
                {
                    *hash = found;
                }
            }
        }
    }
}

/// Four states.
struct Wide([__m256i; 25]);

impl Wide {
    #[target_feature(enable = "avx2")]
    fn zero() -> Wide {
        Wide([_mm256_setzero_si256(); 25])
    }

    #[target_feature(enable = "avx2")]
    fn load(states: &[&mut Lanes; WIDTH]) -> Wide {
        Wide(from_fn(|lane| gather(from_fn(|at| states[at][lane]))))
    }

    #[target_feature(enable = "avx2")]
    fn store(&self, states: [&mut Lanes; WIDTH]) {
        let [a, b, c, d] = states;
        for (lane, vector) in self.0.iter().enumerate() {
            [a[lane], b[lane], c[lane], d[lane]] = scatter(*vector);
        }
    }

    /// The state at one place.
    #[target_feature(enable = "avx2")]
    fn lanes(&self, at: usize) -> Lanes {
        self.0.map(|vector| scatter(vector)[at])
    }

    /// What each state would give now as its hash.
    #[target_feature(enable = "avx2")]
    fn hashes(&self) -> [B256; WIDTH] {
        let mut hashes = [B256::ZERO; WIDTH];
        for (at, vector) in self.0[..4].iter().enumerate() {
            for (hash, lane) in hashes.iter_mut().zip(scatter(*vector)) {
                hash[8 * at..8 * at + 8].copy_from_slice(&lane.to_le_bytes());
            }
        }
        hashes
    }

    /// Keeps the states whose mask is all ones, and clears those whose mask is zero.
    #[target_feature(enable = "avx2")]
    fn and(&mut self, masks: [u64; WIDTH]) {
        let masks = gather(masks);
        for vector in &mut self.0 {
            *vector = _mm256_and_si256(*vector, masks);
        }
    }

    /// Takes a block into each state.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn xor(&mut self, blocks: [&Block; WIDTH]) {
        let [a, b, c, d] = blocks;
        for lane in 0..BLOCK_BYTES / 8 {
            let vector = gather([part(a, lane), part(b, lane), part(c, lane), part(d, lane)]);
            self.0[lane] = xor(self.0[lane], vector);
        }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn permute(&mut self) {
        let mut between = self.0;
        // Their number is hidden: rounds laid out one after the other are 29 KB of code, more than the caches for it hold.
        for [even, odd] in black_box(&ROUND_CONSTANTS[..]).as_chunks().0 {
            round(&self.0, &mut between, *even);
            round(&between, &mut self.0, *odd);
        }
    }
}

/// What a block holds for a lane.
#[inline]
fn part(block: &Block, lane: usize) -> u64 {
    u64::from_le_bytes(block.as_chunks().0[lane])
}

#[target_feature(enable = "avx2")]
#[inline]
fn gather([a, b, c, d]: [u64; WIDTH]) -> __m256i {
    _mm256_set_epi64x(d as i64, c as i64, b as i64, a as i64)
}

#[target_feature(enable = "avx2")]
#[inline]
fn scatter(vector: __m256i) -> [u64; WIDTH] {
    [
        _mm256_extract_epi64::<0>(vector) as u64,
        _mm256_extract_epi64::<1>(vector) as u64,
        _mm256_extract_epi64::<2>(vector) as u64,
        _mm256_extract_epi64::<3>(vector) as u64,
    ]
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor(a: __m256i, b: __m256i) -> __m256i {
    _mm256_xor_si256(a, b)
}

/// Rotation of each lane to the left. There is none before AVX-512: it is two shifts, or a shuffle where it is by whole bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn rotate<const BITS: i32>(a: __m256i) -> __m256i {
    // as bytes of either half
    const BY_8: i64 = 0x0605_0403_0201_0007;
    const BY_56: i64 = 0x0007_0605_0403_0201;
    const SECOND: i64 = 0x0808_0808_0808_0808;
    match BITS {
        0 => a,
        8 => _mm256_shuffle_epi8(
            a,
            _mm256_set_epi64x(BY_8 + SECOND, BY_8, BY_8 + SECOND, BY_8),
        ),
        56 => _mm256_shuffle_epi8(
            a,
            _mm256_set_epi64x(BY_56 + SECOND, BY_56, BY_56 + SECOND, BY_56),
        ),
        _ => _mm256_or_si256(
            _mm256_sll_epi64(a, _mm_cvtsi32_si128(BITS)),
            _mm256_srl_epi64(a, _mm_cvtsi32_si128(64 - BITS)),
        ),
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn round(a: &[__m256i; 25], out: &mut [__m256i; 25], constant: u64) {
    // theta: the parity of each column, and what it adds to its neighbours
    let c0 = xor(xor(xor(a[0], a[5]), xor(a[10], a[15])), a[20]);
    let c1 = xor(xor(xor(a[1], a[6]), xor(a[11], a[16])), a[21]);
    let c2 = xor(xor(xor(a[2], a[7]), xor(a[12], a[17])), a[22]);
    let c3 = xor(xor(xor(a[3], a[8]), xor(a[13], a[18])), a[23]);
    let c4 = xor(xor(xor(a[4], a[9]), xor(a[14], a[19])), a[24]);
    let d = [
        xor(c4, rotate::<1>(c1)),
        xor(c0, rotate::<1>(c2)),
        xor(c1, rotate::<1>(c3)),
        xor(c2, rotate::<1>(c4)),
        xor(c3, rotate::<1>(c0)),
    ];
    // rho, pi and chi, a row of the result at a time: the registers hold no more
    macro_rules! row {
        ($($lane:literal << $bits:literal),*) => {
            chi([$(rotate::<$bits>(xor(a[$lane], d[$lane % 5]))),*])
        };
    }
    let [e0, e1, e2, e3, e4] = row!(0 << 0, 6 << 44, 12 << 43, 18 << 21, 24 << 14);
    // iota
    let e0 = xor(e0, _mm256_set1_epi64x(constant as i64));
    (out[0], out[1], out[2], out[3], out[4]) = (e0, e1, e2, e3, e4);
    let [e0, e1, e2, e3, e4] = row!(3 << 28, 9 << 20, 10 << 3, 16 << 45, 22 << 61);
    (out[5], out[6], out[7], out[8], out[9]) = (e0, e1, e2, e3, e4);
    let [e0, e1, e2, e3, e4] = row!(1 << 1, 7 << 6, 13 << 25, 19 << 8, 20 << 18);
    (out[10], out[11], out[12], out[13], out[14]) = (e0, e1, e2, e3, e4);
    let [e0, e1, e2, e3, e4] = row!(4 << 27, 5 << 36, 11 << 10, 17 << 15, 23 << 56);
    (out[15], out[16], out[17], out[18], out[19]) = (e0, e1, e2, e3, e4);
    let [e0, e1, e2, e3, e4] = row!(2 << 62, 8 << 55, 14 << 39, 15 << 41, 21 << 2);
    (out[20], out[21], out[22], out[23], out[24]) = (e0, e1, e2, e3, e4);
}

#[target_feature(enable = "avx2")]
#[inline]
fn chi(b: [__m256i; 5]) -> [__m256i; 5] {
    let mix = |x: usize| {
        let other = _mm256_andnot_si256(b[(x + 1) % 5], b[(x + 2) % 5]);
        xor(b[x], other)
    };
    [mix(0), mix(1), mix(2), mix(3), mix(4)]
}
