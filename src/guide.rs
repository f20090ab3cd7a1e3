//! Guides: the pages of `docs/`, whose code is compiled and run with the crate's tests.

/// What the pages call each other; stands first, so that it counts here, and the file names at their ends on GitHub.
macro_rules! links {
    () => {
        "[office365]: crate::guide::office365\n\
         [settings]: crate::guide::settings\n\
         [observability]: crate::guide::observability\n\
         [performance]: crate::guide::performance\n\
         [testing]: crate::guide::testing\n\
         [migrating-from-lettre]: crate::guide::migrating_from_lettre\n\
         [troubleshooting]: crate::guide::troubleshooting\n\
         [security]: crate::guide::security\n\
         [design]: crate::guide::design\n\n"
    };
}

macro_rules! guide {
    ($name:ident, $file:literal) => {
        #[doc = links!()]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $name {}
    };
}

guide!(office365, "office365.md");
guide!(settings, "settings.md");
guide!(observability, "observability.md");
guide!(performance, "performance.md");
guide!(testing, "testing.md");
guide!(migrating_from_lettre, "migrating-from-lettre.md");
guide!(troubleshooting, "troubleshooting.md");
guide!(security, "security.md");
guide!(design, "design.md");
