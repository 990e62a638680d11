//! Writes the CustomResourceDefinitions as YAML into a directory, for `deploy/crd`.

use std::path::PathBuf;

use kube::ResourceExt;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: crdgen DIRECTORY")?);
    for crd in mail_laser_crds::crds()? {
        let file = format!("{}_{}.yaml", crd.spec.group, crd.spec.names.plural);
        std::fs::write(directory.join(&file), mail_laser_crds::manifest(&crd)?)
            .map_err(|error| format!("{} cannot be written to {file}: {error}", crd.name_any()))?;
    }
    Ok(())
}
