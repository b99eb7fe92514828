//! What a fetch pod reads back from a volume, where others may write too, and what it tells.

use std::path::{Component, Path};

use tenantry::fetcher::{
    journal::{Journal, Past},
    manifest::Manifest,
    outcome::{Line, Outcome, TERMINATION_MESSAGE},
    plan::{Owner, Plan},
    volume::Volume,
};

/// A line of a pod's log, its termination message, and the plan it is given.
pub(crate) fn outcome(bytes: &[u8]) {
    let told = match serde_json::from_slice(bytes) {
        Ok(Line::Result(outcome)) => Some(outcome),
        Ok(Line::Progress(_)) | Err(_) => serde_json::from_slice::<Outcome>(bytes).ok(),
    };
    if let Some(outcome) = told {
        let compact = outcome.compact();
        assert!(compact.len() <= TERMINATION_MESSAGE, "{} bytes", compact.len());
        let back: Outcome = serde_json::from_str(&compact).expect("what is told can be read");
        assert_eq!(back.compact(), compact, "cut twice is cut once");
        assert_eq!(back.exit_code(), outcome.exit_code());
    }
    if let Err(why) = Plan::parse(&String::from_utf8_lossy(bytes)) {
        assert!(why.to_string().len() < 4_000, "{why}");
    }
}

fn is_inside(path: &str) -> bool {
    Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)))
}

/// A manifest and a journal that anybody may have written.
pub(crate) fn read_back(bytes: &[u8]) {
    let volume = tempfile::tempdir().expect("a directory");
    let root = Volume::open(volume.path().to_str().expect("a path")).expect("a volume");
    let state = root
        .root()
        .and_then(|root| root.make_or_enter(".tenantry"))
        .expect("a folder");
    let owner = Owner::of("artifactfetch", "files").expect("an owner");
    let other = Owner::of("artifactfetch", "other").expect("an owner");
    for name in [&owner, &other] {
        for kind in ["json", "journal"] {
            let path = volume.path().join(format!(".tenantry/{}.{kind}", name.as_str()));
            std::fs::write(path, bytes).expect("written");
        }
    }

    if let Some(manifest) = Manifest::read(&state, &owner).expect("read") {
        manifest.write(&state).expect("written");
        let again = Manifest::read(&state, &owner).expect("read").expect("there");
        if again.owner == owner {
            assert_eq!(again, manifest, "what was written is what is read");
        }
        for path in manifest.owned().keys() {
            assert!(is_inside(path.as_str()), "{path} is outside of the volume");
            // It may be in the way of a file; it may not make us look elsewhere.
            drop(root.look(path));
        }
    }
    let mut seen = 0;
    Manifest::of_others(&state, &owner, |kept| {
        assert!(
            is_inside(kept.path.as_str()),
            "{} is outside of the volume",
            kept.path
        );
        seen += 1;
        Ok(())
    })
    .expect("read");
    assert!(seen <= bytes.len(), "{seen} files of {} bytes", bytes.len());

    if let Some(past) = Past::read(&state, &owner).expect("read") {
        for path in past.whole.keys().chain(past.safe.keys()) {
            assert!(is_inside(path.as_str()), "{path} is outside of the volume");
        }
        drop(Journal::begin(&state, &owner, &past).expect("written"));
        let again = Past::read(&state, &owner).expect("read").expect("there");
        assert_eq!(again, past, "what was written is what is read");
    }
    Past::of_others(&state, &owner, |_| Ok(())).expect("read");
}
