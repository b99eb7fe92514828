use std::{fs, io::Write as _, os::unix::fs::symlink};

use super::*;

fn volume() -> (tempfile::TempDir, Volume) {
    let folder = tempfile::tempdir().unwrap();
    let volume = Volume::open(folder.path().to_str().unwrap()).unwrap();
    (folder, volume)
}

fn path(text: &str) -> RelativePath {
    RelativePath::new(text).unwrap()
}

#[test]
fn directories_are_made_on_the_way() {
    let (folder, volume) = volume();
    fs::create_dir(folder.path().join("a")).unwrap();
    let mut made = Vec::new();
    let inner = volume
        .make_folder(Some("a/b/c"), |path| {
            made.push(path.to_owned());
            Ok(())
        })
        .unwrap();
    assert_eq!(made, ["a/b", "a/b/c"]);
    inner.write("file").unwrap().write_all(b"hello").unwrap();
    assert_eq!(fs::read(folder.path().join("a/b/c/file")).unwrap(), b"hello");
    assert!(matches!(
        volume.look(&path("a/b/c/file")).unwrap(),
        Found::File { size: 5, .. }
    ));
    assert_eq!(volume.look(&path("x/y")).unwrap(), Found::Nothing);
    inner.sync().unwrap();
    volume.root().unwrap().sync().unwrap();
}

#[test]
fn no_symlink_is_followed_wherever_it_leads() {
    let (folder, volume) = volume();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    fs::create_dir(folder.path().join("real")).unwrap();
    for (name, target) in [
        ("out", outside.path()),
        ("up", ".."[..].as_ref()),
        ("in", "real".as_ref()),
        ("none", "nowhere".as_ref()),
    ] {
        symlink(target, folder.path().join(name)).unwrap();
        let refused = [
            volume.folder(Some(name)).err(),
            volume.folder(Some(&format!("{name}/x"))).err(),
            volume.make_folder(Some(&format!("{name}/x")), |_| Ok(())).err(),
            volume.look(&path(&format!("{name}/secret"))).err(),
            volume.root().unwrap().read(name).err(),
            volume.root().unwrap().write(name).err(),
        ];
        for failure in refused {
            let failure = failure.unwrap_or_else(|| panic!("{name} was followed"));
            assert_eq!(failure.kind, FailureKind::PathRefused, "{name}: {failure}");
            assert!(failure.message.contains("symlink"), "{failure}");
        }
        assert_eq!(volume.look(&path(name)).unwrap(), Found::Symlink);
    }
    symlink(outside.path().join("secret"), folder.path().join("file")).unwrap();
    let root = volume.root().unwrap();
    assert!(root.write("file").is_err());
    root.remove("file").unwrap();
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"x");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn what_is_of_another_kind_is_refused() {
    let (folder, volume) = volume();
    fs::write(folder.path().join("file"), "x").unwrap();
    fs::create_dir(folder.path().join("directory")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.path().join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    let root = volume.root().unwrap();
    for failure in [
        volume.folder(Some("file/x")).err(),
        volume.folder(Some("pipe")).err(),
        root.read("pipe").err(),
        root.write("pipe").err(),
        root.read("directory").err(),
        root.write("directory").err(),
    ] {
        assert_eq!(failure.expect("a refusal").kind, FailureKind::PathRefused);
    }
    assert!(root.read("missing").unwrap().is_none());
}

#[test]
fn only_empty_directories_go() {
    let (folder, volume) = volume();
    fs::create_dir_all(folder.path().join("full/inner")).unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let root = volume.root().unwrap();
    assert!(!root.remove_if_empty("full").unwrap());
    assert!(root.remove_if_empty("empty").unwrap());
    assert!(root.remove_if_empty("missing").unwrap());
}

#[test]
fn a_stamp_survives_a_move_and_not_a_change() {
    let (folder, volume) = volume();
    let root = volume.root().unwrap();
    let inner = volume.make_folder(Some("a"), |_| Ok(())).unwrap();
    let mut file = root.write("part").unwrap();
    file.write_all(b"x").unwrap();
    let stamp = Stamp::of(&file).unwrap();
    root.move_file("part", &inner, "whole").unwrap();
    assert_eq!(inner.look("whole").unwrap(), Found::File { size: 1, stamp });
    fs::remove_file(folder.path().join("a/whole")).unwrap();
    fs::write(folder.path().join("other"), "y").unwrap();
    fs::write(folder.path().join("a/whole"), "y").unwrap();
    assert_ne!(inner.look("whole").unwrap(), Found::File { size: 1, stamp });
}

#[test]
fn what_stands_in_the_way_is_told_apart() {
    let table = [
        (libc_code(rustix::io::Errno::NOSPC), FailureKind::DiskFull),
        (libc_code(rustix::io::Errno::DQUOT), FailureKind::QuotaExceeded),
        (libc_code(rustix::io::Errno::ROFS), FailureKind::ReadOnly),
        (
            libc_code(rustix::io::Errno::ACCESS),
            FailureKind::PermissionDenied,
        ),
        (libc_code(rustix::io::Errno::PERM), FailureKind::PermissionDenied),
        (libc_code(rustix::io::Errno::FBIG), FailureKind::TooLarge),
        (
            libc_code(rustix::io::Errno::NAMETOOLONG),
            FailureKind::PathRefused,
        ),
        (libc_code(rustix::io::Errno::IO), FailureKind::VolumeFailed),
        (libc_code(rustix::io::Errno::STALE), FailureKind::VolumeFailed),
    ];
    for (code, kind) in table {
        let failure = failed("write", &"out/a", &io::Error::from_raw_os_error(code));
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains("out/a"), "{failure}");
    }
    assert_eq!(
        Volume::open("/does/not/exist").unwrap_err().kind,
        FailureKind::VolumeMissing
    );
    assert_eq!(
        Volume::open("relative").unwrap_err().kind,
        FailureKind::InvalidPlan
    );
}

fn libc_code(errno: rustix::io::Errno) -> i32 {
    errno.raw_os_error()
}
