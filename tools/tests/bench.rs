//! `bench`: figures in the time given.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use common::Fixture;

#[test]
fn every_figure_is_measured_in_about_the_time_given() {
    for store in [Fixture::clique(2_100), Fixture::clique(1)] {
        let begin = Instant::now();
        let found = store
            .run(&["bench", "--seconds", "0.3", "--json"])
            .ok()
            .json();
        assert!(begin.elapsed() < Duration::from_secs(60));
        let figures = found["figures"].as_array().unwrap();
        let names: Vec<_> = figures
            .iter()
            .map(|f| f["name"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "header_scan",
                "headers_192",
                "header_by_number",
                "number_by_hash",
                "body_responses",
                "verify"
            ]
        );
        for figure in figures {
            assert!(figure["count"].as_u64().unwrap() > 0, "{figure}");
            assert!(figure["per_second"].as_f64().unwrap() > 0.0, "{figure}");
        }
        let text = store.run(&["bench", "--seconds", "0.05"]).ok();
        assert_eq!(text.text().lines().count(), 7, "{}", text.text());
    }
    let store = Fixture::clique(1);
    store
        .run(&["bench", "--seconds", "0"])
        .refused(2, "--seconds");
    store
        .run(&["bench", "--seconds", "NaN"])
        .refused(2, "--seconds");
}
