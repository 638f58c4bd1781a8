//! Where tasks may run, on the wire.

use super::{Converted, Malformed, each};
use jobs::Rules;
use jobs::site::{Constraint, Is, Spread, is_key};
use wire::v1;

/// As the fields of a demand say it.
pub(super) fn rules_from(
    constraints: Vec<v1::Constraint>,
    together: String,
    spread: Option<v1::Spread>,
) -> Converted<Rules> {
    let key = |key: String, path: &str| match is_key(&key) {
        true => Ok(key),
        false => Err(Malformed::new(path, format!("is {key:?}, which is no attribute of agents"))),
    };
    let spread = match spread {
        None => None,
        Some(v1::Spread { key: of, most }) => {
            Some(Spread { key: key(of, "spread.key")?, most: (most > 0).then_some(most) })
        }
    };
    Ok(Rules {
        constraints: each(constraints, "constraints", constraint_from)?,
        together: if together.is_empty() { None } else { Some(key(together, "together")?) },
        spread,
    })
}

fn constraint_from(wire: v1::Constraint) -> Converted<Constraint> {
    let v1::Constraint { key, kind, values } = wire;
    if !is_key(&key) {
        return Err(Malformed::new("key", format!("is {key:?}, which is no attribute of agents")));
    }
    let is = match v1::ConstraintKind::try_from(kind) {
        Ok(v1::ConstraintKind::OneOf) => Is::OneOf(values),
        Ok(v1::ConstraintKind::NoneOf) => Is::NoneOf(values),
        Ok(v1::ConstraintKind::There) => Is::There,
        Ok(v1::ConstraintKind::Absent) => Is::Absent,
        Ok(v1::ConstraintKind::Unspecified) | Err(_) => {
            return Err(Malformed::new("kind", format!("is {kind}, which is no kind of constraint")));
        }
    };
    Ok(Constraint { key, is })
}

/// The fields of a demand.
pub fn rules_to(rules: Rules) -> (Vec<v1::Constraint>, String, Option<v1::Spread>) {
    let Rules { constraints, together, spread } = rules;
    let spread = spread.map(|Spread { key, most }| v1::Spread { key, most: most.unwrap_or(0) });
    (constraints.into_iter().map(constraint_to).collect(), together.unwrap_or_default(), spread)
}

fn constraint_to(Constraint { key, is }: Constraint) -> v1::Constraint {
    let (kind, values) = match is {
        Is::OneOf(values) => (v1::ConstraintKind::OneOf, values),
        Is::NoneOf(values) => (v1::ConstraintKind::NoneOf, values),
        Is::There => (v1::ConstraintKind::There, Vec::new()),
        Is::Absent => (v1::ConstraintKind::Absent, Vec::new()),
    };
    v1::Constraint { key, kind: kind.into(), values }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_survive_the_wire() {
        let constraints = jobs::site::parse_constraints("a = b; c not in (d, e); f exists; g absent").unwrap();
        let rules = Rules { constraints, together: Some("rack".into()), spread: Some("host:2".parse().unwrap()) };
        for rules in [rules, Rules::default()] {
            let (constraints, together, spread) = rules_to(rules.clone());
            assert_eq!(rules_from(constraints, together, spread), Ok(rules));
        }
    }

    #[test]
    fn what_is_no_rule_is_refused_with_its_place() {
        let constraint = |key: &str, kind| v1::Constraint { key: key.into(), kind, values: vec![] };
        for (constraints, together, place) in [
            (vec![constraint("a b", 1)], "", "constraints[0].key"),
            (vec![constraint("a", 0)], "", "constraints[0].kind"),
            (vec![], "a b", "together"),
        ] {
            let refused = rules_from(constraints, together.into(), None).expect_err("refused").to_string();
            assert!(refused.contains(place), "{refused}");
        }
    }
}
