//! Silences: whether people have said that what a rule fires for is not acted upon now. Pure: times are those of records.

use super::{
    cel::{Program, Scope},
    compile::{Rule, names_of_silences},
    fault::EvalError,
};
use crate::{
    api::{EventRuleSpec, Silence},
    clock::Stamp,
    event::Event,
    poison,
    record::GroupValues,
};

/// The silences of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Silences {
    told: Vec<Silence>,
    tests: Vec<Test>,
}

/// A silence that can be asked.
#[derive(Clone, Debug)]
struct Test {
    name: String,
    /// In microseconds since 1970.
    until: i64,
    /// Without it all is silenced.
    expression: Option<Program>,
}

/// What a firing would be about.
pub(super) struct About<'a> {
    pub(super) event: Option<&'a Event>,
    pub(super) source: &'a str,
    pub(super) values: &'a GroupValues,
    pub(super) stamp: Stamp,
}

/// What silences say to a firing.
#[derive(Debug, Default)]
pub(super) struct Hush {
    /// Until when it is silenced, on the line of stamps; nothing when it is not.
    pub(super) until: Option<i64>,
    /// Of expressions that cannot be evaluated: they silence nothing.
    pub(super) errors: Vec<EvalError>,
}

/// Why the silence cannot be in force for the rule: its expression does not compile.
pub fn fault_of_silence(rule: &Rule, silence: &Silence) -> Option<String> {
    let source = silence.expression.as_ref()?;
    let program = match compile(&rule.spec, source) {
        Ok(program) => program,
        Err(why) => return Some(format!("expression: {why}")),
    };
    let needs = rule.looked_up.or(program.looked_up());
    (needs != rule.looked_up).then(|| {
        "expression: looks at labels or the owner of what a Kubernetes Event regards, which are looked up only where an expression of the rule itself does"
            .to_owned()
    })
}

fn compile(spec: &EventRuleSpec, source: &str) -> Result<Program, String> {
    let compiled = poison::caught(|| Program::compile(source, &names_of_silences(spec)));
    let program = compiled.map_err(|poisoned| poisoned.to_string())?.map_err(|fault| fault.to_string())?;
    match program.surely_not_bool() {
        Some(other) => Err(format!("gives {other}, not true or false")),
        None => Ok(program),
    }
}

impl Silences {
    /// What was said of a rule, whose version in force is this. What does not compile for it is not in force.
    pub(super) fn new(told: Vec<Silence>, rule: Option<&Rule>) -> Self {
        let tests = rule.map_or_else(Vec::new, |rule| {
            let sound = told.iter().filter(|one| fault_of_silence(rule, one).is_none());
            sound.filter_map(|silence| Test::of(&rule.spec, silence)).collect()
        });
        Self { told, tests }
    }

    /// The same for another version of the rule.
    pub(super) fn for_version(self, rule: Option<&Rule>) -> Self {
        if self.told.is_empty() { self } else { Self::new(self.told, rule) }
    }

    pub(super) fn told(&self) -> &[Silence] {
        &self.told
    }

    /// When the only silence that lasts is over; nothing when there are several, for which of them it is was not noted.
    pub(super) fn only_end(&self, wall: i64) -> Option<i64> {
        let mut lasting = self.tests.iter().filter(|test| test.until > wall);
        let first = lasting.next()?;
        lasting.next().is_none().then_some(first.until)
    }

    /// Whether what this is about is silenced, until the last of the silences that say so is over.
    pub(super) fn hush(&self, rule: &Rule, about: &About<'_>) -> Hush {
        let mut hush = Hush::default();
        let lasting = || self.tests.iter().filter(|test| test.until > about.stamp.wall);
        if lasting().next().is_none() {
            return hush;
        }
        let scope = match about.event {
            Some(event) => Scope::new(event, about.source, &rule.rule, about.stamp.timestamp()).with_variables(rule),
            None => Scope::empty(),
        };
        let scope = scope.with_group(about.values, None);
        for test in lasting() {
            match test.expression.as_ref().map_or(Ok(true), |expression| expression.test(&scope)) {
                Ok(true) => {
                    let until = test.until.saturating_sub(about.stamp.wall).saturating_add(about.stamp.at);
                    hush.until = hush.until.max(Some(until));
                }
                Ok(false) => {}
                Err(error) => hush.errors.push(error.at(&format!("silences[{}]", test.name))),
            }
        }
        hush
    }
}

impl Test {
    fn of(spec: &EventRuleSpec, silence: &Silence) -> Option<Self> {
        let expression = match &silence.expression {
            Some(source) => Some(compile(spec, source).ok()?),
            None => None,
        };
        let until = silence.until.as_ref()?.0.as_microsecond();
        Some(Self { name: silence.name.clone(), until, expression })
    }
}
