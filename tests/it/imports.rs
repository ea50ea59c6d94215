//! Who may import whom, checked on the source text: the parts decide and never see the node that acts, and the wire
//! stays behind its door.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The parts, and what each may import of the others. `failure` is everybody's.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("routing", &[]),
    // Encodings of zones, and the id of a query.
    ("engine", &["routing", "delivery"]),
    ("delivery", &["engine", "routing"]),
    // Coverage and what is asked are the engine's words; results are delivery's.
    ("leader", &["routing", "engine", "delivery"]),
    // The tables of strategies, to check names.
    ("config", &["routing", "leader", "delivery"]),
    ("failure", &["routing"]),
    // What a node says of itself crosses the wire, and so does everything else that crosses it.
    ("transport", &["routing", "engine", "delivery", "leader", "node::status", "config"]),
    ("client", &["transport", "delivery", "leader", "node::status", "engine", "routing"]),
    ("node", &["routing", "engine", "delivery", "leader", "transport", "config"]),
    ("cli", &["client", "node", "config", "leader", "delivery", "engine", "routing", "transport"]),
];

/// Every source file of a package below `src`, by its path there.
fn sources(package: &str) -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(package).join("src");
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(&root).expect("below the root").to_owned();
                found.insert(below, fs::read_to_string(&path).expect("text"));
            }
        }
    }
    assert!(found.len() > 5, "{package} has sources");
    found
}

/// The text without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// What is imported below `crate::`, with the second name where there is one.
fn imports(text: &str) -> Vec<String> {
    let code: String = code(text).collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let path: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect();
        if path.is_empty() {
            let group = rest.trim_start_matches('{').split('}').next().unwrap_or_default();
            found.extend(group.split(',').map(|name| name.trim().to_owned()));
        } else {
            found.push(path);
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

fn part_of(file: &Path) -> String {
    let first = file.iter().next().expect("a path has a first name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn parts_import_only_what_they_may() {
    let mut broken = Vec::new();
    for (file, text) in sources("") {
        let part = part_of(&file);
        if matches!(part.as_str(), "lib" | "main") {
            continue;
        }
        let line = MAY_IMPORT.iter().find(|(name, _)| *name == part);
        let (_, allowed) = line.unwrap_or_else(|| panic!("{part} is a new part: say what it may import"));
        for import in imports(&text) {
            let is = |name: &str| import == name || import.starts_with(&format!("{name}::"));
            let own = is(&part) || is("failure") || allowed.iter().any(|name| is(name));
            // An item of the crate's root or of a macro is no part.
            let is_part = MAY_IMPORT.iter().any(|(name, _)| is(name));
            if is_part && !own {
                broken.push(format!("{} imports {import}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_transport_sees_the_wire() {
    // DataFusion's own protobuf of its expressions is the form in which a predicate crosses.
    const EXCEPTIONS: &[(&str, &str)] = &[("engine/predicate.rs", "prost")];
    let mut broken = Vec::new();
    for (file, text) in sources("") {
        if part_of(&file) == "transport" {
            continue;
        }
        for word in ["tonic", "prost", "include_proto"] {
            let is_excused = EXCEPTIONS.contains(&(&*file.to_string_lossy(), word));
            let used =
                code(&text).any(|line| line.contains(&format!("{word}::")) || line.contains(&format!("{word}!")));
            if used && !is_excused {
                broken.push(format!("{} mentions {word}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn calls_of_one_system_stand_in_one_file() {
    // What only tests use, and one sync of a folder that other systems do not have.
    const EXCEPTIONS: &[(&str, &str)] = &[
        ("cli/place.rs", "std::os::"),
        ("cli/place.rs", "cfg(unix)"),
        ("cache_writer.rs", "cfg(unix)"),
        ("cache_writer.rs", "cfg(not(unix))"),
    ];
    const WORDS: &[&str] = &[
        "rustix",
        "libc::",
        "windows_sys",
        "std::os::",
        "signal::unix",
        "cfg(unix)",
        "cfg(windows)",
        "cfg(not(unix))",
        "target_os",
        "\"/proc",
        "/dev/",
    ];
    let mut broken = Vec::new();
    for package in ["", "ingest"] {
        for (file, text) in sources(package) {
            let name = file.to_string_lossy().replace('\\', "/");
            for word in WORDS {
                let is_excused = name == "node/os.rs" || EXCEPTIONS.contains(&(&*name, word));
                if !is_excused && code(&text).any(|line| line.contains(word)) {
                    broken.push(format!("{package} {name} mentions {word}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn ingest_stands_alone() {
    for (file, text) in sources("ingest") {
        let sees = |word: &str| code(&text).any(|line| line.contains(word));
        for word in ["overlay::", "datafusion", "tonic", "tokio"] {
            assert!(!sees(word), "{} mentions {word}", file.display());
        }
    }
}

#[test]
fn a_shared_thing_has_a_home() {
    for package in ["", "ingest"] {
        for file in sources(package).keys() {
            for name in file.iter().map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned()) {
                let is_nobodys = ["utils", "util", "common", "helpers", "types", "manager"].contains(&name.as_str());
                assert!(!is_nobodys, "{}", file.display());
            }
        }
    }
}

#[test]
fn imports_are_found_in_every_form() {
    for (text, expected) in [
        ("use crate::node::Node;", "node::Node"),
        ("use crate::{routing::NodeId, node};", "routing::NodeId node"),
        ("let x = crate::cli::run();", "cli::run"),
        ("// crate::node is not seen", ""),
    ] {
        assert_eq!(imports(text).join(" "), expected, "{text}");
    }
}
