//! Which fault strikes which request.
//!
//! Everything is decided by counters and seeds, never by a clock or by chance, so that a failing test
//! fails again.

use parking_lot::Mutex;

use crate::fault::{Fault, Faults, Rule, Seeded};

/// The faults in force and how often they have been asked for.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Counted>,
    seeded: Option<Seeded>,
    /// Requests since the faults were set.
    requests: u64,
}

#[derive(Debug)]
struct Counted {
    rule: Rule,
    matches: u64,
    strikes: u64,
}

impl Plan {
    /// Replaces all faults; every counter starts at zero.
    pub(crate) fn replace(&self, faults: Faults) {
        let count = |rule| Counted {
            rule,
            matches: 0,
            strikes: 0,
        };
        *self.state.lock() = State {
            rules: faults.rules.into_iter().map(count).collect(),
            seeded: faults.seeded,
            requests: 0,
        };
    }

    /// The fault for the next request.
    pub(crate) fn draw(&self, op: &str, key: &str) -> Option<Fault> {
        let mut state = self.state.lock();
        let request = state.requests;
        state.requests += 1;
        if let Some(fault) = state
            .rules
            .iter_mut()
            .find_map(|counted| counted.draw(op, key))
        {
            return Some(fault);
        }
        state
            .seeded
            .as_ref()
            .and_then(|seeded| seeded.draw(op, request))
    }
}

impl Counted {
    fn draw(&mut self, op: &str, key: &str) -> Option<Fault> {
        let rule = &self.rule;
        if !(glob(&rule.op, op) && key.starts_with(&rule.key) && rule.fault.fits(op)) {
            return None;
        }
        let number = self.matches;
        self.matches += 1;
        let is_spent = rule.times.is_some_and(|times| self.strikes >= times);
        let is_spared = rule
            .probability
            .is_some_and(|share| fraction(rule.seed, number) >= share);
        if number < rule.after || is_spent || is_spared {
            return None;
        }
        self.strikes += 1;
        Some(rule.fault.clone())
    }
}

impl Seeded {
    fn draw(&self, op: &str, request: u64) -> Option<Fault> {
        if fraction(self.seed, request) >= self.probability {
            return None;
        }
        let fitting: Vec<&Fault> = self.faults.iter().filter(|fault| fault.fits(op)).collect();
        let pick = mix(mix(self.seed, request), 1).checked_rem(fitting.len() as u64)?;
        fitting.get(pick as usize).map(|fault| (*fault).clone())
    }
}

/// Whether `text` matches a pattern in which `*` stands for any characters.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .any(|at| glob(rest, &text[at..]))
        }),
    }
}

/// A number that looks random and depends on both arguments only (the finaliser of SplitMix64, Steele,
/// Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
pub(crate) fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// From 0 to below 1.
fn fraction(seed: u64, number: u64) -> f64 {
    (mix(seed, number) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(json: serde_json::Value) -> Plan {
        let plan = Plan::default();
        plan.replace(serde_json::from_value(json).unwrap());
        plan
    }

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("*", "PutObject", true),
            ("Put*", "PutObject", true),
            ("*Object", "PutObject", true),
            ("*Object", "DeleteObjects", false),
            ("*Multipart*", "CreateMultipartUpload", true),
            ("PutObject", "PutObjectAcl", false),
            ("", "PutObject", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rules_skip_count_and_end() {
        let plan = plan(serde_json::json!({"rules": [
            {"op": "Put*", "key": "a/", "after": 1, "times": 2, "fault": {"kind": "lost_put"}},
        ]}));
        let struck: Vec<bool> = (0..5)
            .map(|_| plan.draw("PutObject", "a/1").is_some())
            .collect();
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(plan.draw("PutObject", "b/1"), None);
        assert_eq!(plan.draw("GetObject", "a/1"), None);
    }

    #[test]
    fn seeds_decide() {
        let faults = serde_json::json!({"seeded": {"seed": 7, "probability": 0.3, "faults": [
            {"kind": "wrong_bytes"}, {"kind": "lost_put"}, {"kind": "hang", "hang_ms": 1},
        ]}});
        let draw = |plan: &Plan| -> Vec<_> {
            (0..1000)
                .map(|_| plan.draw("GetObject", "").map(|fault| fault.name()))
                .collect()
        };
        let first = draw(&plan(faults.clone()));
        assert_eq!(first, draw(&plan(faults)));
        let struck = first.iter().flatten().count();
        assert!((200..400).contains(&struck), "{struck}");
        assert!(!first.contains(&Some("lost_put")));
        assert!(first.contains(&Some("hang")) && first.contains(&Some("wrong_bytes")));
    }

    #[test]
    fn a_status_must_be_an_error() {
        let faults = serde_json::json!({"rules": [
            {"op": "*", "fault": {"kind": "status", "status": 200, "code": "OK"}},
        ]});
        let refusal = serde_json::from_value::<Faults>(faults).unwrap_err();
        assert!(refusal.to_string().contains("use 400 to 599"), "{refusal}");
    }
}
