//! How long a row takes from where it is read to a reader in another process. It is made at most 1.3 ms before, when a
//! batch of them is due.
//!
//! Invariant: both clocks are one; a row's age is taken when the line that tells it has been read. A
//! run's first seconds do not count: code and caches are cold. `rows/s` beside an age says what really came through.

use super::{Figure, topics};
use anyhow::{Context, bail};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(super) const ROWS_PER_SECOND: u64 = 50_000;
pub(super) const WARM_UP: Duration = Duration::from_secs(3);
pub(super) const MEASURED: Duration = Duration::from_secs(10);

const SOURCE: &str = "CREATE TABLE made (id BIGINT, value DOUBLE, at AS PROCTIME()) \
                      WITH (connector = 'datagen', rate = 'RATE', splits = '2', 'fields.id.kind' = 'sequence');\n\
                      CREATE TABLE told (made BIGINT, id BIGINT, twice DOUBLE) WITH (connector = 'stdout');\n";

const STATELESS: &str = "INSERT INTO told SELECT CAST(at AS BIGINT), id, value * 2 FROM made WHERE value >= 0;\n";

/// Every row crosses to the slice that owns its key; the first row of each key comes through, so all of them do.
const EXCHANGED: &str = "INSERT INTO told SELECT CAST(at AS BIGINT), id, value FROM (\n\
                         SELECT *, ROW_NUMBER() OVER (PARTITION BY id ORDER BY value) AS place FROM made\n\
                         ) WHERE place <= 1;\n";

/// `beside`: a running broker through which records also go, beside ours.
pub async fn measure(beside: Option<String>) -> anyhow::Result<Vec<Figure>> {
    let folder = std::env::temp_dir().join(format!("smack-bench-latency-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    let here = folder.clone();
    let result = tokio::task::spawn_blocking(move || {
        let mut figures = measure_in(&here)?;
        figures.extend(topics::measure(&here, beside.as_deref())?);
        Ok(figures)
    });
    let result = result.await?;
    std::fs::remove_dir_all(&folder).with_context(|| format!("failed to remove {}", folder.display()))?;
    result
}

fn measure_in(folder: &Path) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (name, insert, goal_p50, goal_p99) in
        [("stateless", STATELESS, Some(2.0), Some(10.0)), ("keyed exchange", EXCHANGED, None, Some(15.0))]
    {
        let file = folder.join("latency.sql");
        let text = SOURCE.replace("RATE", &ROWS_PER_SECOND.to_string()) + insert;
        std::fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
        let mut ages = ages(&file)?;
        ages.sort_unstable();
        let rate = ages.len() as f64 / MEASURED.as_secs_f64();
        let at = |share: f64| ages[((ages.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        let what = |which: &str| format!("{name}, source to reader outside: {which}");
        figures.push(Figure::lower("latency", what("p50"), at(0.5), "ms", goal_p50));
        figures.push(Figure::lower("latency", what("p99"), at(0.99), "ms", goal_p99));
        let wanted = Some(ROWS_PER_SECOND as f64 * 0.95);
        figures.push(Figure::higher("latency", format!("{name}: rows that came through"), rate, "rows/s", wanted));
    }
    Ok(figures)
}

/// Microseconds from making to reading, of the rows that are read in the measured time.
fn ages(file: &Path) -> anyhow::Result<Vec<i64>> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["run", "--slices", "2", "-q"])
        .arg(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start `smack run`")?;
    let mut lines = child.stdout.take().context("failed to read from `smack run`")?;
    let read = read_ages(&mut lines);
    let _ = child.kill();
    let output = child.wait_with_output().context("failed to wait for `smack run`")?;
    match read {
        Ok(ages) if !ages.is_empty() => Ok(ages),
        Ok(_) => bail!("no row came: {}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => Err(error),
    }
}

fn read_ages(lines: &mut impl Read) -> anyhow::Result<Vec<i64>> {
    let mut ages = Vec::with_capacity(ROWS_PER_SECOND as usize * MEASURED.as_secs() as usize);
    let mut buffer = vec![0; 1 << 20];
    let mut filled = 0;
    let mut first = None;
    loop {
        let n = lines.read(&mut buffer[filled..]).context("failed to read the rows of `smack run`")?;
        if n == 0 {
            return Ok(ages);
        }
        let now = Instant::now();
        let now_us = now_us()?;
        filled += n;
        let began = *first.get_or_insert(now);
        if now - began >= WARM_UP + MEASURED {
            return Ok(ages);
        }
        let end = buffer[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        if now - began >= WARM_UP {
            for line in buffer[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                ages.push(now_us - made_us(line)?);
            }
        }
        buffer.copy_within(end..filled, 0);
        filled -= end;
        if filled == buffer.len() {
            bail!("a row of more than {filled} bytes came");
        }
    }
}

pub(super) fn now_us() -> anyhow::Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64)
}

/// The number behind `"made":` of a JSON line.
pub(super) fn made_us(line: &[u8]) -> anyhow::Result<i64> {
    let key = b"\"made\":";
    let found = line.windows(key.len()).position(|bytes| bytes == key).map(|at| &line[at + key.len()..]);
    let digits = found.map(|rest| rest.iter().take_while(|byte| byte.is_ascii_digit()));
    match digits {
        Some(digits) => Ok(digits.fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))),
        None => bail!("a line without the time it was made: {}", String::from_utf8_lossy(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_queries_plan() {
        for insert in [STATELESS, EXCHANGED] {
            let script = streaming::sql::parse(&(SOURCE.replace("RATE", "1000") + insert)).expect("it parses");
            let inserts: Vec<usize> = script.inserts().map(|(at, _)| at).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let functions = streaming::functions::Functions::new();
            runtime.block_on(streaming::sql::plan(&script, &inserts, &functions)).expect("it plans");
        }
    }

    #[test]
    fn the_time_of_a_line_is_found() {
        assert_eq!(made_us(br#"{"op":"+","made":1767225600000001,"id":5}"#).expect("a time"), 1_767_225_600_000_001);
        assert!(made_us(br#"{"id":5}"#).is_err());
    }
}
