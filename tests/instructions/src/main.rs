//! Counts instructions and compares them with `baseline.json`: `check`, or `store` to take the new counts.
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use ringfence_instructions::baseline::{Baseline, Comparison, Outcome};
use ringfence_instructions::callgrind;
use ringfence_instructions::hot::{ALL, Hot};

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        // What runs under callgrind.
        ["work", name, part, times] => {
            let hot = find(name)?;
            let work = if *part == "but" {
                hot.but.context("it has none")?
            } else {
                hot.work
            };
            work(times.parse()?);
            Ok(ExitCode::SUCCESS)
        }
        ["check"] => check(),
        ["store"] => {
            let now = count()?;
            fs::write(stored_at(), serde_json::to_string_pretty(&now)? + "\n")?;
            println!("stored in {}", stored_at().display());
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("ringfence-instructions check | store"),
    }
}

fn check() -> Result<ExitCode> {
    let text = fs::read_to_string(stored_at()).with_context(|| stored_at().display().to_string())?;
    let before: Baseline = serde_json::from_str(&text)?;
    let now = count()?;
    let compared = before.compare(&now);
    println!("{:<12} {:>9} {:>9} {:>7}", "", "stored", "now", "");
    for one in &compared {
        println!("{}", line(one));
    }
    if before.rustc != now.rustc {
        println!("stored with {}, this is {}", before.rustc, now.rustc);
    }
    if compared.iter().any(Comparison::fails) {
        println!(
            "more than 5 % more instructions: find out why, or `make bench-instructions STORE=1` and say why in the commit"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn line(one: &Comparison) -> String {
    let show = |count: Option<f64>| count.map_or("–".to_owned(), |count| format!("{count:.1}"));
    let change = one
        .before
        .zip(one.now)
        .map(|(before, now)| (now / before - 1.0) * 100.0);
    let change = change.map_or(String::new(), |percent| format!("{percent:+.1} %"));
    let verdict = match one.outcome() {
        Outcome::Same => "",
        Outcome::Fewer => "fewer: worth storing",
        Outcome::More => "MORE",
        Outcome::Unpaired => "in one of the two only",
    };
    let what = ALL
        .iter()
        .find(|hot| hot.name == one.name)
        .map_or("", |hot| hot.what);
    format!(
        "{:<12} {:>9} {:>9} {change:>7}  {what} {verdict}",
        one.name,
        show(one.before),
        show(one.now)
    )
}

fn count() -> Result<Baseline> {
    let folder = std::env::temp_dir().join(format!("ringfence-instructions-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let counted = ALL.iter().map(|hot| {
        let instructions = callgrind::count(hot, &folder)?;
        Ok((hot.name.to_owned(), (instructions * 10.0).round() / 10.0))
    });
    let instructions = counted.collect::<Result<_>>();
    let _ = fs::remove_dir_all(&folder);
    Ok(Baseline {
        rustc: rustc()?,
        instructions: instructions?,
    })
}

fn find(name: &str) -> Result<&'static Hot> {
    ALL.iter()
        .find(|hot| hot.name == name)
        .with_context(|| format!("nothing hot is called {name}"))
}

fn rustc() -> Result<String> {
    let output = Command::new("rustc")
        .arg("--version")
        .output()
        .context("cannot run rustc")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn stored_at() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.json")
}
