//! Prints the CustomResourceDefinition as YAML, for `deploy/crd`.

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let yaml = serde_yaml_ng::to_string(&mail_laser_crds::crd()?)?;
    std::io::stdout().write_all(yaml.as_bytes())?;
    Ok(())
}
