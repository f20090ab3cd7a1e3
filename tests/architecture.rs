//! The layers of docs/design.md hold: a module imports only from lower ones, and the style's bounds are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Reads the table of modules and layers from docs/design.md.
fn layers() -> BTreeMap<String, u8> {
    let design = fs::read_to_string("docs/design.md").unwrap();
    let rows = design.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (modules, layer) = (cells.next()?, cells.next()?.parse().ok()?);
        Some(
            modules
                .split(',')
                .map(move |module| (module.trim().trim_matches('`').to_owned(), layer))
                .collect::<Vec<_>>(),
        )
    });
    rows.flatten().collect()
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The top-level module a file belongs to.
fn module(path: &Path) -> String {
    let first = path.strip_prefix("src").unwrap().components().next().unwrap();
    Path::new(first.as_os_str()).file_stem().unwrap().to_str().unwrap().to_owned()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// The names behind every `crate::` of a file's code.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !is_comment(line));
    code.flat_map(|line| line.split("crate::").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn every_module_imports_from_lower_layers_only() {
    let layers = layers();
    let mut wrong = Vec::new();
    for path in sources(Path::new("src")) {
        let module = module(&path);
        if module == "lib" {
            continue;
        }
        let Some(own) = layers.get(&module) else {
            wrong.push(format!("{}: `{module}` is not in the table of docs/design.md", path.display()));
            continue;
        };
        let text = fs::read_to_string(&path).unwrap();
        let (code, tests) = text.split_once("#[cfg(test)]\nmod ").unwrap_or((&text, ""));
        // Unit tests may use the fakes.
        let in_tests = imports(tests).into_iter().filter(|import| import != "testing");
        for import in imports(code).into_iter().chain(in_tests) {
            // `testing` stands outside, as its users do, and imports from the crate's root.
            let is_lower = layers.get(&import).is_some_and(|layer| layer < own);
            if import != module && module != "testing" && !is_lower {
                wrong.push(format!("{}: `{module}` imports `{import}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn smtp_and_tokens_do_not_know_each_other() {
    for path in sources(Path::new("src")) {
        let forbidden: &[&str] = match module(&path).as_str() {
            "smtp" => &["token", "oauth", "entra"],
            "token" | "oauth" | "entra" => &["smtp"],
            _ => continue,
        };
        let imports = imports(&fs::read_to_string(&path).unwrap());
        let met: Vec<_> = imports.iter().filter(|import| forbidden.contains(&import.as_str())).collect();
        assert!(met.is_empty(), "{} imports {met:?}", path.display());
    }
}

#[test]
fn the_table_names_no_module_that_is_gone() {
    let modules: Vec<_> = sources(Path::new("src")).iter().map(|path| module(path)).collect();
    for name in layers().keys() {
        assert!(modules.contains(name), "docs/design.md lists `{name}`, which does not exist");
    }
}

#[test]
fn every_file_says_what_it_is_for_and_stays_small() {
    let mut wrong = Vec::new();
    for path in sources(Path::new("src")) {
        let text = fs::read_to_string(&path).unwrap();
        if !text.starts_with("//! ") && !text.starts_with("#![doc = include_str!") {
            wrong.push(format!("{} does not open with `//!`", path.display()));
        }
        let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let code: Vec<_> = code.lines().filter(|line| !line.trim().is_empty() && !is_comment(line)).collect();
        if code.len() > 400 {
            wrong.push(format!("{} has {} lines of code", path.display(), code.len()));
        }
        let reads_time =
            code.iter().any(|line| line.contains("now_utc()") || line.contains("SystemTime::now"));
        if path != Path::new("src/clock.rs") && reads_time {
            wrong.push(format!("{} reads the system clock", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The crates whose names begin a path, by the names under which they are depended on.
fn crates(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    words
        .filter_map(|word| word.split_once("::"))
        .map(|(root, _)| root)
        .filter(|root| root.starts_with(|c: char| c.is_lowercase()))
        .filter(|root| !["alloc", "core", "smtp_oauth", "std"].contains(root))
        .map(|root| match root {
            "serde_core" => "serde",
            "typespec" => "azure_core",
            root => root,
        })
        .collect()
}

#[test]
fn the_public_api_names_no_other_crates_than_the_design() {
    let design = fs::read_to_string("docs/design.md").unwrap();
    let (_, paragraph) = design.split_once("\nForeign types in the public API: ").unwrap();
    let paragraph = paragraph.split("\n\n").next().unwrap();
    let code = paragraph.split('`').skip(1).step_by(2);
    let named: BTreeSet<_> = code.map(|code| code.split("::").next().unwrap()).collect();
    let api = fs::read_to_string("docs/public-api.txt").unwrap();
    assert!(api.lines().count() > 1000, "docs/public-api.txt is incomplete");
    for line in api.lines() {
        let unnamed: Vec<_> = crates(line).difference(&named).copied().collect();
        assert!(
            unnamed.is_empty(),
            "docs/design.md does not name {unnamed:?} among the foreign types: {line}"
        );
    }
}
