//! Rules about the tree itself, as tests: the map in the README is the map of the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

const FILE_LINES_MAX: usize = 800;
const TOP_LEVEL: [&str; 10] = [
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE",
    "README.md",
    "configs",
    "drivers",
    "firmware",
    "gateway",
    "tests",
    "yocto",
];
/// Crates without clock, file, socket, thread or environment.
const PURE: [&str; 5] = ["model", "policy", "evidence", "codec", "catalogue"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the root").to_path_buf()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

fn tracked_files() -> Vec<String> {
    let listing =
        Command::new("git").args(["ls-files"]).current_dir(root()).output().expect("git is there");
    let text = String::from_utf8(listing.stdout).expect("git prints UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// Crate name to the workspace crates that it depends on outside its tests.
fn crate_graph() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo is there");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages is a list");
    let names: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let mut graph = BTreeMap::new();
    for package in packages {
        let dependencies = package["dependencies"].as_array().expect("dependencies is a list");
        let inside = dependencies
            .iter()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str())
            .filter(|name| names.contains(name))
            .map(str::to_owned)
            .collect();
        graph.insert(package["name"].as_str().expect("a name").to_owned(), inside);
    }
    graph
}

/// The rows `| crate | folder | purpose | depends on |` of the README's crate table.
fn readme_graph() -> BTreeMap<String, BTreeSet<String>> {
    let text = read(&root().join("README.md"));
    let mut graph = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _folder, _purpose, depends] = cells[..] else { continue };
        let depends = depends.split(',').map(|one| one.trim().trim_matches('`'));
        let depends = depends.filter(|one| !matches!(*one, "" | "-")).map(str::to_owned).collect();
        graph.insert(name.trim_matches('`').to_owned(), depends);
    }
    graph
}

#[test]
fn readme_shows_the_crate_graph() {
    assert_eq!(crate_graph(), readme_graph(), "left: cargo metadata, right: README.md");
}

#[test]
fn arrows_point_down() {
    let layer = |name: &str| match name {
        "guan-model" => 0,
        "guan-policy" | "guan-evidence" | "guan-codec" => 1,
        "guan-configs" | "guan-catalogue" => 2,
        "guan-spool" | "guan-identity" | "guan-link" | "guan-drivers" | "guan-negotiation" => 3,
        "guan-log" | "guan-carry" => 4,
        "guan-edge" | "guan-space" => 5,
        "guan-peers" | "guan-cuts" => 7,
        _ => 6,
    };
    for (name, dependencies) in crate_graph() {
        for dependency in dependencies {
            assert!(layer(&dependency) < layer(&name), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn pure_crates_hold_their_wall() {
    for folder in PURE {
        let path = root().join("gateway").join(folder).join(".clippy.toml");
        let wall = read(&path);
        for banned in ["std::time::Instant::now", "std::fs::File", "std::collections::HashMap"] {
            assert!(wall.contains(banned), "{} does not ban {banned}", path.display());
        }
    }
}

#[test]
fn only_named_entries_at_the_top() {
    for file in tracked_files() {
        let top = file.split('/').next().expect("a path has a first part");
        assert!(top.starts_with('.') || TOP_LEVEL.contains(&top), "{file}: not on the map");
    }
}

#[test]
fn files_stay_readable() {
    for file in tracked_files().iter().filter(|file| file.ends_with(".rs")) {
        let path = root().join(file);
        if !path.exists() {
            continue;
        }
        let lines = read(&path).lines().count();
        assert!(lines <= FILE_LINES_MAX, "{file} has {lines} lines; split it by idea");
    }
}

#[test]
fn every_crate_root_forbids_unsafe_code() {
    for file in tracked_files() {
        let is_root = file.ends_with("src/lib.rs") || file.ends_with("src/main.rs");
        if is_root && root().join(&file).exists() {
            let text = read(&root().join(&file));
            assert!(text.contains("#![forbid(unsafe_code)]"), "{file} lacks forbid(unsafe_code)");
        }
    }
}

#[test]
fn data_has_a_licence_that_we_may_pass_on() {
    let data = root().join("tests/data");
    for entry in std::fs::read_dir(&data).expect("tests/data is there") {
        let folder = entry.expect("a readable entry").path();
        if !folder.is_dir() {
            continue;
        }
        let source = read(&folder.join("SOURCE.md"));
        let allowed = ["MIT", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0"];
        let named = allowed.iter().any(|licence| source.contains(licence));
        assert!(named, "{}: SOURCE.md names no allowed licence", folder.display());
    }
}
