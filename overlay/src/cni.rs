//! The CNI configuration of the node's pod bridge, as flannel's plug-in delegates it.

use std::{fs, io, path::Path};

use ipnet::Ipv4Net;
use serde_json::{Value, json};

use crate::Error;

const FILE: &str = "10-flannel.conflist";

/// Writes the configuration, unless it stands there already.
pub(crate) fn write(folder: &Path, cidr: Ipv4Net, mtu: u32) -> Result<(), Error> {
    let path = folder.join(FILE);
    let text = format!("{:#}\n", config(cidr, mtu));
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    replace(folder, &path, &text).map_err(|source| Error::Cni { path, source })
}

/// The runtime reads the folder at any time, so the file appears whole.
fn replace(folder: &Path, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let draft = folder.join(format!(".{FILE}.new"));
    fs::write(&draft, text)?;
    fs::rename(&draft, path)
}

fn config(cidr: Ipv4Net, mtu: u32) -> Value {
    json!({
        "name": "cbr0",
        "cniVersion": "0.3.1",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "mtu": mtu,
                "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "forceAddress": true, "ipMasq": false,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": cidr.to_string()}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_appears_whole_and_once() {
        let folder = std::env::temp_dir().join(format!("overlay-cni-{}", std::process::id()));
        let cidr = "10.244.1.0/24".parse().unwrap();
        write(&folder, cidr, 1450).unwrap();
        write(&folder, cidr, 1450).unwrap();
        let names: Vec<_> = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
        let written: Value = serde_json::from_str(&fs::read_to_string(folder.join(FILE)).unwrap()).unwrap();
        assert_eq!(written["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.244.1.0/24");
        fs::remove_dir_all(folder).unwrap();
    }
}
