//! Overlay mounts of many layers. The kernel takes one page of options, and every layer's path stands in them.
//!
//! What does not fit is said with paths relative to the directory that all layers are in, mounted by a thread that
//! stands there: containerd does the same.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// What the kernel takes, less the end mark.
const MAX_OPTIONS_BYTES: usize = 4095;
const LOWER: &str = "lowerdir=";

/// Options, and where their relative paths begin.
#[derive(Debug, PartialEq, Eq)]
struct Relative {
    directory: String,
    options: String,
}

/// Mounts something of `kind`. Blocking.
pub(super) fn attach(
    source: &str,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    options: &str,
) -> std::io::Result<()> {
    if options.len() <= MAX_OPTIONS_BYTES {
        return Ok(mount(Some(source), target, kind, flags, Some(options))?);
    }
    let too_long = || std::io::Error::other(format!("{} bytes of mount options are too many", options.len()));
    let relative = relative(options).filter(|relative| relative.options.len() <= MAX_OPTIONS_BYTES);
    let relative = relative.ok_or_else(too_long)?;
    let work = || -> std::io::Result<()> {
        // Only this thread stands somewhere else.
        unshare(CloneFlags::CLONE_FS)?;
        nix::unistd::chdir(relative.directory.as_str())?;
        Ok(mount(Some(source), target, kind, flags, Some(relative.options.as_str()))?)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("mount".into()).spawn_scoped(scope, work)?;
        thread.join().map_err(|_| std::io::Error::other("the mounting thread panicked"))?
    })
}

/// None when the layers have no directory in common, or when a path cannot be told apart.
fn relative(options: &str) -> Option<Relative> {
    let (before, rest) = match options.find(LOWER)? {
        0 => ("", options),
        at => options.split_at_checked(at).filter(|(before, _)| before.ends_with(','))?,
    };
    let rest = rest.strip_prefix(LOWER)?;
    let (layers, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
    // An escaped colon or comma belongs to a path.
    if layers.contains('\\') {
        return None;
    }
    let paths: Vec<&str> = layers.split(':').collect();
    let common = paths.iter().skip(1).fold(paths.first()?.len(), |length, path| shared(paths[0], path).min(length));
    let directory = &paths[0][..=paths[0][..common].rfind('/')?];
    let short: Vec<&str> = paths.iter().map(|path| &path[directory.len()..]).collect();
    // An empty one would be the directory itself, which a relative path of nothing does not name.
    if !directory.starts_with('/') || short.iter().any(|path| path.is_empty()) {
        return None;
    }
    let options = format!("{before}{LOWER}{}{after}", short.join(":"));
    Some(Relative { directory: directory.to_owned(), options })
}

/// Bytes that two texts begin with in common.
fn shared(a: &str, b: &str) -> usize {
    let bytes = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    (0..=bytes).rev().find(|at| a.is_char_boundary(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_by_the_directory_they_share() {
        let found = |options: &str| relative(options).map(|relative| (relative.directory, relative.options));
        let of = |directory: &str, options: &str| Some((directory.to_owned(), options.to_owned()));
        for (options, expected) in [
            ("lowerdir=/s/1/fs:/s/12/fs", of("/s/", "lowerdir=1/fs:12/fs")),
            ("index=off,lowerdir=/s/1/fs:/s/2/fs,userxattr", of("/s/", "index=off,lowerdir=1/fs:2/fs,userxattr")),
            ("lowerdir=/a/x:/b/x", of("/", "lowerdir=a/x:b/x")),
            ("lowerdir=/s/1", of("/s/", "lowerdir=1")),
            ("lowerdir=/s/ä:/s/å", of("/s/", "lowerdir=ä:å")),
            ("lowerdir=/s/:/s/1", None),
            ("lowerdir=1:2", None),
            ("lowerdir=/s/a\\:b:/s/c", None),
            ("upperdir=/s/1", None),
            ("otherlowerdir=/s/1", None),
        ] {
            assert_eq!(found(options), expected, "{options}");
        }
    }

    /// More layers than one page of options has room for, in a mount namespace of its own.
    #[test]
    fn many_layers_are_mounted() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let layers: Vec<String> = (0..100).map(|layer| format!("{}/{layer:0>60}", root.display())).collect();
        for (index, layer) in layers.iter().enumerate() {
            std::fs::create_dir(layer).unwrap();
            std::fs::write(format!("{layer}/{index}"), "").unwrap();
        }
        let target = root.join("merged");
        std::fs::create_dir(&target).unwrap();
        // Relative to the directory they are too long still, absolute the more so.
        let too_many = format!("lowerdir={}", layers.join(":"));
        let few = format!("lowerdir={}", layers[..60].join(":"));
        assert!(few.len() > MAX_OPTIONS_BYTES && relative(&few).unwrap().options.len() < MAX_OPTIONS_BYTES);
        let work = || {
            unshare(CloneFlags::CLONE_NEWNS).expect("mounting needs root");
            mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
            let before = nix::unistd::getcwd().unwrap();
            let refused = attach("overlay", &target, Some("overlay"), MsFlags::MS_RDONLY, &too_many).unwrap_err();
            assert!(refused.to_string().ends_with("mount options are too many"), "{refused}");
            attach("overlay", &target, Some("overlay"), MsFlags::MS_RDONLY, &few).unwrap();
            assert_eq!(nix::unistd::getcwd().unwrap(), before, "nobody else was moved");
            std::fs::read_dir(&target).unwrap().count()
        };
        let seen = std::thread::scope(|scope| scope.spawn(work).join().unwrap());
        assert_eq!(seen, 60);
    }
}
