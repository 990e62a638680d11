//! Prints the CustomResourceDefinition as YAML, for `deploy/crd`.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = mail_laser_crds::manifest()?;
    std::io::stdout().write_all(yaml.as_bytes())?;
    Ok(())
}
