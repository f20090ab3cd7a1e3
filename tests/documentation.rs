//! The pages of docs/ lead to each other wherever they are read: in the repository and in rustdoc.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// README and every page, with its path.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = docs
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| path.to_str().unwrap().to_owned())
        .collect();
    paths.push("README.md".to_owned());
    paths.sort();
    paths
        .into_iter()
        .map(|path| (fs::read_to_string(&path).unwrap(), path))
        .map(|(text, path)| (path, text))
        .collect()
}

/// The definitions of links: label and target.
fn definitions(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map(|line| line.trim_start_matches("//! "));
    lines.filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect()
}

/// The labels that rustdoc is given for `[label]: crate::guide::…`, in the file that gives them.
fn rustdoc_labels(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines = text.lines().filter(|line| line.contains("]: crate::guide::"));
    lines.map(|line| line.split(['[', ']']).nth(1).unwrap().to_owned()).collect()
}

#[test]
fn every_page_is_a_guide_in_rustdoc() {
    let guide = fs::read_to_string("src/guide.rs").unwrap();
    for (path, _) in pages() {
        let page = path.trim_start_matches("docs/");
        if page != "README.md" {
            assert!(guide.contains(&format!("\"{page}\"")), "{page} is missing in src/guide.rs");
        }
    }
}

#[test]
fn links_between_pages_hold_in_the_repository_and_in_rustdoc() {
    for (path, text) in pages() {
        assert!(!text.contains("](docs/"), "{path}: use [text][label] and a definition at the end");
        let mut inline = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap());
        let page = inline.find(|target| target.ends_with(".md"));
        assert_eq!(page, None, "{path}: write [text][label], with its definition at the end");
        let file = if path == "README.md" { "src/lib.rs" } else { "src/guide.rs" };
        for (label, target) in definitions(&text) {
            if target.contains("://") {
                continue;
            }
            let base = Path::new(&path).parent().unwrap();
            assert!(base.join(target).is_file(), "{path}: {target} does not exist");
            assert!(rustdoc_labels(file).contains(label), "{file} does not tell rustdoc of [{label}]");
        }
    }
}

#[test]
fn every_proof_in_the_threat_model_is_a_test() {
    let text = fs::read_to_string("docs/security.md").unwrap();
    let proofs: Vec<_> =
        text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(proofs.len() > 30, "{proofs:?}");
    for (file, test) in proofs {
        let path = if file.starts_with("src/") { file.to_owned() } else { format!("tests/{file}.rs") };
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "{path} has no test {test}");
    }
}
