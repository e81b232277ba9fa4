//! Writes each target's seeds into its corpus, where they are not there yet.

use std::fs;
use std::path::Path;

use ringfence_fuzz::TARGETS;

fn main() -> std::io::Result<()> {
    for target in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(target.name);
        fs::create_dir_all(&folder)?;
        for (name, input) in (target.seeds)() {
            let file = folder.join(name);
            if !file.exists() {
                fs::write(file, input)?;
            }
        }
    }
    Ok(())
}
