//! Archives built in memory, read back.

use super::*;

fn archive(entries: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut builder = tar::Builder::new(file.reopen().unwrap());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
    file
}

#[test]
fn names_are_completed() {
    for (given, full) in [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1", "docker.io/library/busybox:1"),
        ("team/app", "docker.io/team/app:latest"),
        ("localhost/app:1", "localhost/app:1"),
        ("reg.example:5000/app", "reg.example:5000/app:latest"),
        ("reg.example/app@sha256:00", "reg.example/app@sha256:00"),
    ] {
        assert_eq!(normalize(given), full);
    }
}

#[test]
fn reads_a_docker_archive() {
    let manifest = br#"[{"Config":"c.json","RepoTags":["app:1"],"Layers":["l/layer.tar"]}]"#;
    let file = archive(&[("c.json", b"{}"), ("l/layer.tar", b"layer"), ("manifest.json", manifest)]);
    let contents = open(file.path()).unwrap();
    assert_eq!(contents.blobs.len(), 3);
    let image = &contents.images[0];
    assert_eq!(image.names, ["docker.io/library/app:1"]);
    let last = contents.blobs.last().unwrap();
    assert_eq!(last.digest, image.digest, "the manifest comes after what it names");
    assert_eq!(last.references, [digest_of(b"{}"), digest_of(b"layer")]);
}

#[test]
fn reads_an_oci_layout() {
    let config = b"{\"config\":{}}";
    let manifest = json!({
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(config), "size": config.len()},
        "layers": [],
    })
    .to_string();
    let digest = digest_of(manifest.as_bytes());
    let index = json!({"manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": manifest.len(),
        "annotations": {"org.opencontainers.image.ref.name": "example.org/app:2"},
    }]})
    .to_string();
    let path = |d: &str| format!("./blobs/{}", d.replace(':', "/"));
    let file = archive(&[
        ("oci-layout", b"{}"),
        ("index.json", index.as_bytes()),
        (&path(&digest_of(config)), config),
        (&path(&digest), manifest.as_bytes()),
    ]);
    let contents = open(file.path()).unwrap();
    assert_eq!(contents.images[0].names, ["example.org/app:2"]);
    let digests: Vec<_> = contents.blobs.iter().map(|b| b.digest.clone()).collect();
    assert_eq!(digests, [digest_of(config), digest]);
}

#[test]
fn refuses_what_is_no_image() {
    let file = archive(&[("hello", b"world")]);
    assert!(matches!(open(file.path()), Err(Error::Archive(_))));
}
