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

/// The public methods of each type that it names `impl Type {`, with their receivers and what they return.
fn methods(text: &str) -> BTreeMap<String, Vec<[String; 3]>> {
    let code: Vec<_> = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default().lines().collect();
    let mut methods = BTreeMap::<_, Vec<_>>::new();
    let mut of = None;
    for (number, line) in code.iter().enumerate() {
        if line.starts_with("impl") && !line.contains(" for ") {
            let name = line.trim_start_matches("impl").trim_end_matches(" {");
            // `impl<T> Type<T>` and `impl Type<Other>`.
            let name =
                name.strip_prefix('<').and_then(|rest| rest.split_once("> ")).map_or(name, |(_, name)| name);
            of = Some(name.trim().split('<').next().unwrap_or_default().to_owned());
        } else if line.starts_with('}') {
            of = None;
        }
        let (Some(of), Some(method)) = (&of, line.strip_prefix("    pub ")) else { continue };
        let Some((_, method)) = method.split_once("fn ") else { continue };
        let signature: Vec<_> =
            code[number..].iter().take_while(|line| !line.trim().is_empty()).copied().collect();
        let signature = signature.join(" ").split(" {").next().unwrap_or_default().to_owned();
        let name = method.split(['(', '<']).next().unwrap_or_default();
        let arguments = signature.split_once(&format!("fn {name}")).map_or("", |(_, rest)| rest);
        let receiver = arguments.split_once('(').map_or("", |(_, rest)| rest.trim_start());
        let receiver = receiver.split([',', ')']).next().unwrap_or_default();
        let returned = signature.rsplit_once(" -> ").map_or("", |(_, returned)| returned);
        let method = [name, receiver, returned].map(str::to_owned);
        methods.entry(of.clone()).or_default().push(method);
    }
    methods
}

#[test]
fn what_can_be_read_back_is_set_with_with_and_nothing_else_is() {
    let mut wrong = Vec::new();
    let mut values = 0;
    for path in sources(Path::new("src")) {
        for (of, methods) in methods(&fs::read_to_string(&path).unwrap()) {
            let is_setter = |[_, receiver, returned]: &&[String; 3]| {
                receiver.ends_with("self")
                    && !receiver.starts_with('&')
                    && returned.trim_start_matches("Result<").starts_with("Self")
            };
            let reads: Vec<_> = methods
                .iter()
                .filter(|[_, receiver, _]| receiver == "&self")
                .map(|[name, ..]| name.as_str())
                .collect();
            let is_value = methods.iter().any(|[name, ..]| name.starts_with("with_"));
            values += usize::from(is_value);
            for [name, ..] in methods.iter().filter(is_setter) {
                let is_named = name.starts_with("with_") || name.starts_with("without_");
                // Certificates are not read back: their type is not one of this crate's interface.
                let is_read = |field| {
                    reads.iter().any(|read| read.trim_end_matches('s') == field)
                        || matches!(field, "source" | "extra_root")
                };
                let expected = match name.strip_prefix("with_") {
                    Some(field) => is_read(field.trim_end_matches('s')),
                    None => !reads.contains(&name.as_str()) && (is_named || !is_value),
                };
                if !expected {
                    wrong.push(format!("{}: {of}::{name}", path.display()));
                }
            }
            let constructors =
                methods.iter().filter(|method| !is_setter(method) && method[0].starts_with("with_"));
            wrong.extend(
                constructors.map(|[name, ..]| format!("{}: {of}::{name} sets nothing", path.display())),
            );
        }
    }
    assert!(values > 10, "only {values} values were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
