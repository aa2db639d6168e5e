//! The code of the guide is compiled, and its results are those that the guide shows.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub)]

mod first;
mod second;

use std::{env, fs, path::Path};

use trove_core::conformance::driver::certify_matching;
use trove_drivers::conformance::DockerTestbed;

const GUIDE: &str = include_str!("../../GUIDE.md");

fn image() -> String {
    let variable = "TROVE_IMAGE_VALKEY_8_1";
    env::var(variable)
        .unwrap_or_else(|_| panic!("{variable} must name the image to test; `cargo xtask images` prints it"))
}

/// Returns the code blocks of the guide in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    GUIDE.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_code_of_the_guide_is_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = ["tests/guide", "tests", "src"].map(|directory| fs::read_dir(root.join(directory)).unwrap());
    let files = sources.into_iter().flatten().map(|entry| entry.unwrap().path());
    let compiled: Vec<_> = files.filter(|path| path.is_file()).map(|path| fs::read_to_string(path).unwrap()).collect();
    let blocks = blocks("rust");
    assert!(blocks.len() > 4, "the guide has too few code blocks");
    for block in blocks {
        assert!(compiled.iter().any(|file| file.contains(block)), "not part of any compiled file:\n{block}");
    }
}

#[test]
fn the_engine_has_at_most_350_lines() {
    let sources = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).unwrap();
    let lines = sources.map(|file| fs::read_to_string(file.unwrap().path()).unwrap().lines().count());
    let lines: usize = lines.sum();
    assert!((100..=350).contains(&lines), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_version_fails_as_the_guide_shows() {
    let driver = first::Cache::new().image("8.1", image());
    let report = certify_matching(DockerTestbed::new(driver).unwrap(), "observe::a_serving_server").await;
    assert!(!report.passed());
    let outputs = blocks("text").concat();
    for line in report.to_string().lines() {
        assert!(outputs.contains(line), "the guide does not show:\n{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_version_passes() {
    let driver = second::Cache::new().image("8.1", image());
    let report = certify_matching(DockerTestbed::new(driver).unwrap(), "observe::").await;
    assert!(report.passed(), "{report}");
}
