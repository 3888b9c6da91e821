//! The figures as a picture: a chart each for bytes, transactions, gas, times between blocks and signers.

use alloy_primitives::Address;

use super::figures::{Figures, Kind, TYPES};
use crate::{
    people,
    svg::{Chart, Picture, Series, Shape},
};

/// Signers with a colour of their own; the others share one.
const SIGNERS_SHOWN: usize = 7;

/// Draws `buckets`, which follow each other, of the chain called `chain`.
pub(super) fn draw(chain: &str, total: &Figures, buckets: &[Figures], kind: Kind) -> String {
    let (begin, end) = total.times_s();
    let mut charts = vec![bytes(buckets), transactions(total, buckets), gas(buckets)];
    charts.push(intervals(total, buckets));
    if !total.signers.is_empty() {
        charts.push(signers(total, buckets));
    }
    let mut notes = format!("{} to {}", people::date(begin), people::date(end));
    if kind.period_s.is_some() {
        let missed = people::count(total.missed());
        notes.push_str(&format!(", {missed} missed slots"));
    }
    let each = buckets.first().map_or(1, Figures::blocks);
    Picture {
        title: format!(
            "Blocks {} to {} of {chain}",
            people::count(total.first),
            people::count(total.last)
        ),
        notes: match each {
            1 => notes,
            each => format!("{notes}. A step is {} blocks", people::count(each)),
        },
        spans: buckets.iter().map(|b| (b.first, b.last)).collect(),
        charts,
    }
    .draw()
}

/// What `of` gives for each bucket, for each of its blocks.
fn mean(buckets: &[Figures], of: impl Fn(&Figures) -> u64) -> Vec<Option<f64>> {
    let each = |bucket: &Figures| of(bucket) as f64 / bucket.blocks() as f64;
    buckets.iter().map(|bucket| Some(each(bucket))).collect()
}

fn bytes(buckets: &[Figures]) -> Chart {
    Chart {
        title: "Bytes of a block".to_owned(),
        unit: "bytes",
        shape: Shape::Lines,
        series: vec![
            Series::new(0, "as RLP", mean(buckets, Figures::raw_bytes)),
            Series::new(1, "as it is stored", mean(buckets, Figures::stored_bytes)),
        ],
    }
}

fn transactions(total: &Figures, buckets: &[Figures]) -> Chart {
    let mut series: Vec<Series> = total
        .types
        .keys()
        .filter(|kind| usize::from(**kind) < TYPES.len())
        .map(|kind| {
            let count = |bucket: &Figures| bucket.types.get(kind).copied().unwrap_or(0);
            let name = format!("{} (type {kind})", TYPES[usize::from(*kind)]);
            Series::new(usize::from(*kind), name, mean(buckets, count))
        })
        .collect();
    let other = |bucket: &Figures| -> u64 {
        let others = bucket.types.range(TYPES.len() as u8..);
        others.map(|(_, count)| count).sum()
    };
    if other(total) > 0 {
        series.push(Series::new(
            Series::REST,
            "other types",
            mean(buckets, other),
        ));
    }
    Chart {
        title: "Transactions of a block, by type".to_owned(),
        unit: "transactions",
        shape: Shape::Stacked,
        series,
    }
}

fn gas(buckets: &[Figures]) -> Chart {
    Chart {
        title: "Gas of a block".to_owned(),
        unit: "gas",
        shape: Shape::Lines,
        series: vec![
            Series::new(0, "used", mean(buckets, |bucket| bucket.gas_used)),
            Series::new(1, "limit", mean(buckets, |bucket| bucket.gas_limit)),
        ],
    }
}

fn intervals(total: &Figures, buckets: &[Figures]) -> Chart {
    let of = |percent| -> Vec<Option<f64>> {
        let each = |bucket: &Figures| bucket.interval_s(percent).map(|s| s as f64);
        buckets.iter().map(each).collect()
    };
    let mut series = vec![
        Series::new(0, "median", of(50)),
        Series::new(1, "95 of 100 are at most", of(95)),
    ];
    // One long pause would flatten all else: then it is told in the title.
    let longest = total.interval_s(100).unwrap_or(0);
    let usual = buckets
        .iter()
        .filter_map(|bucket| bucket.interval_s(95))
        .max();
    let mut title = "Seconds between blocks".to_owned();
    if longest <= usual.unwrap_or(0).max(1) * 5 {
        series.push(Series::new(2, "longest", of(100)));
    } else {
        title.push_str(&format!(" (the longest: {})", people::count(longest)));
    }
    Chart {
        title,
        unit: "seconds",
        shape: Shape::Lines,
        series,
    }
}

fn signers(total: &Figures, buckets: &[Figures]) -> Chart {
    let busiest = total.busiest();
    let share = |bucket: &Figures, of: &dyn Fn(&Address) -> bool| -> f64 {
        let all: u64 = bucket.signers.values().map(|sealed| sealed.blocks).sum();
        let theirs = bucket.signers.iter().filter(|(who, _)| of(who));
        let theirs: u64 = theirs.map(|(_, sealed)| sealed.blocks).sum();
        100.0 * theirs as f64 / all.max(1) as f64
    };
    let shown = busiest.len().min(SIGNERS_SHOWN);
    let mut series: Vec<Series> = busiest[..shown]
        .iter()
        .enumerate()
        .map(|(at, (signer, sealed))| {
            let values = buckets.iter().map(|b| Some(share(b, &|who| who == signer)));
            let name = format!("{} ({})", short(signer), people::count(sealed.blocks));
            Series::new(at, name, values.collect())
        })
        .collect();
    let rest: Vec<Address> = busiest[shown..].iter().map(|(who, _)| *who).collect();
    if !rest.is_empty() {
        let values = buckets
            .iter()
            .map(|b| Some(share(b, &|who| rest.contains(who))));
        let name = format!("{} others", rest.len());
        series.push(Series::new(Series::REST, name, values.collect()));
    }
    Chart {
        title: "Signers and the blocks they sealed".to_owned(),
        unit: "% of blocks",
        shape: Shape::Stacked,
        series,
    }
}

/// An address short enough for a legend.
fn short(address: &Address) -> String {
    let text = address.to_checksum(None);
    format!("{}\u{2026}{}", &text[..8], &text[38..])
}
