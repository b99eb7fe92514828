//! Logs and files on their way into a sink.

use std::{
    collections::BTreeSet,
    path::{Component, Path},
};

use http::{HeaderMap, Method};
use tenantry::{
    fetcher::path::{FileName, MAX_PATH, RelativePath, SubPath},
    gateway::wire::answer::{self, Answer},
    sinks::{
        files::{self, FetchedBytes, Origin},
        log::{LogAssembly, MAX_LINES, MIN_LIMIT, Masks, last_lines, plain},
        selection::{RemoteFile, Selection},
    },
};

/// Values that no stored text may show; some overlap themselves and one another.
const SECRETS: [&str; 4] = ["hunter2", "aaaa", "it's \"quoted\"\nsecond line", "ünïcödé"];
/// What may be stored of a log.
const LIMIT: usize = 4 * MIN_LIMIT;

/// A log in pieces that are cut anywhere.
pub(crate) fn log(bytes: &[u8]) {
    // More of it is more of the same, and slow where it is not optimised.
    let bytes = &bytes[..bytes.len().min(8 * LIMIT)];
    let masks = Masks::of(SECRETS).expect("masks");
    let mut whole = LogAssembly::new(LIMIT, masks.clone());
    whole.push(bytes);
    whole.finish();
    let whole_image = whole.image();

    let mut pieces = LogAssembly::new(LIMIT, masks);
    let step = 1 + usize::from(bytes.first().copied().unwrap_or_default()) % 97;
    for (n, piece) in bytes.chunks(step).enumerate() {
        pieces.push(piece);
        if n % 64 == 0 {
            assert!(
                pieces.image().text.len() <= LIMIT,
                "a live image is larger than its limit"
            );
        }
    }
    pieces.finish();
    let image = pieces.image();
    assert_eq!(image, whole_image, "in pieces of {step} it is another text");

    assert!(image.text.len() <= LIMIT, "{} bytes of {LIMIT}", image.text.len());
    assert_eq!(
        image.bytes - image.omitted_bytes,
        if image.truncated() {
            (image.head_bytes + image.tail_bytes) as u64
        } else {
            image.text.len() as u64
        }
    );
    let tail = pieces.last_lines(50);
    assert!(tail.len() <= MAX_LINES);
    assert!(
        tail.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()),
        "{tail:?}"
    );
    // What is masked stays so in each text that is made of it.
    for shown in [&image.text, &tail, &last_lines(&image.text, 1000)] {
        for secret in ["hunter2", "aaaa", "ünïcödé", "second line"] {
            assert!(
                !shown.contains(secret) || shown.len() > image.text.len(),
                "{secret} in {shown:?}"
            );
        }
    }
    let line = plain(&String::from_utf8_lossy(bytes));
    assert_eq!(plain(&line), line, "what is plain stays as it is");
}

/// A list of files, from the answer of Jenkins to their places.
pub(crate) fn files(bytes: &[u8]) {
    let path = "/kapis/devops.kubesphere.io/v1alpha2/namespaces/p/pipelines/p/runs/1/artifacts";
    let Ok(Answer::Artifacts(listed)) = answer::read(&Method::GET, path, 200, &HeaderMap::new(), bytes)
    else {
        return;
    };
    let listed: Vec<RemoteFile> = listed
        .into_iter()
        .map(|file| RemoteFile {
            path: file.path,
            size: file.size,
        })
        .collect();
    let selection = Selection::new(&["**".into()], &[], &[], 1 << 40, 10_000).expect("a selection");
    let picked = match selection.pick("run", &listed) {
        Ok(picked) => picked,
        Err(trouble) => {
            assert!(
                trouble.message.len() < 4_000,
                "{} bytes: {trouble}",
                trouble.message.len()
            );
            assert!(!trouble.message.chars().any(char::is_control), "{trouble}");
            vec![]
        }
    };
    for file in &picked {
        stays_inside(Path::new(&file.path));
    }
    for file in &listed {
        on_a_volume(&file.path);
    }
    into_a_config_map(&picked);
}

fn stays_inside(path: &Path) {
    assert!(
        path.components().all(|part| matches!(part, Component::Normal(_))),
        "{} leaves its directory",
        path.display()
    );
}

fn on_a_volume(path: &str) {
    if let Ok(name) = FileName::new(path) {
        assert_eq!(Path::new(name.as_str()).components().count(), 1);
    }
    let sub_path = SubPath::new("team/shop").expect("a sub-path");
    for at in [SubPath::default(), sub_path] {
        let Ok(joined) = at.join(path) else { continue };
        stays_inside(Path::new(joined.as_str()));
        assert!(joined.as_str().len() <= MAX_PATH && joined.as_str().ends_with(path));
        assert!(Path::new(joined.as_str()).starts_with(at.to_string()));
        assert!(
            !joined.as_str().to_lowercase().starts_with(".tenantry/"),
            "{joined}"
        );
        assert_eq!(
            RelativePath::new(joined.as_str()),
            Ok(joined.clone()),
            "checked twice is checked once"
        );
    }
}

fn into_a_config_map(picked: &[RemoteFile]) {
    let fetched = picked.iter().map(|file| FetchedBytes {
        path: file.path.clone(),
        bytes: file.path.clone().into_bytes(),
        sha256: String::new(),
    });
    let origin = Origin {
        revision: "p/p#1",
        selection: "s",
    };
    let Ok(object) = files::build("files", &origin, fetched.collect(), None) else {
        return;
    };
    let keys: BTreeSet<&String> = object.files.iter().filter_map(|file| file.key.as_ref()).collect();
    assert_eq!(keys.len(), picked.len(), "each file has a key of its own");
    for key in keys {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        assert!((1..=253).contains(&key.len()) && key.chars().all(legal), "{key}");
        assert!(key != "." && !key.starts_with(".."), "{key}");
    }
}
