//! The tree of roles: what each holds, its weight and its quota; [`turns`] says who in it is next. A role `a/b` is a
//! child of `a`.
//!
//! Invariant: what a role holds is the sum of what its own frameworks and its child roles hold. `need` is what the
//! guarantees in the role and below it still lack; below a role without guarantees it is nothing, and costs nothing.

mod turns;

pub use turns::Turn;

use super::journal::Touched;
use jobs::Scalars;
use std::collections::{BTreeMap, BTreeSet};

/// The number of a role in the tree.
pub type RoleNumber = u32;

pub const ROOT: RoleNumber = 0;

/// What an operator says about a role.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    pub weight: f64,
    /// Is given to the role before others get more than theirs, and kept free for it. What is not named is nothing.
    pub guarantee: Scalars,
    /// Of what is named here the role never has more.
    pub limit: BTreeMap<String, i64>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { weight: 1.0, guarantee: Scalars::new(), limit: BTreeMap::new() }
    }
}

impl Terms {
    pub fn has_quota(&self) -> bool {
        !self.guarantee.is_empty() || !self.limit.is_empty()
    }

    /// Nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(Debug)]
pub struct Role {
    /// The whole path; empty for the root.
    pub name: String,
    pub parent: RoleNumber,
    pub children: BTreeSet<RoleNumber>,
    pub terms: Terms,
    pub charged: Scalars,
    /// By its own frameworks.
    pub own_charged: Scalars,
    pub n_frameworks: usize,
    n_offered: u64,
    own_n_offered: u64,
    /// Active frameworks in it and below it that posted demand.
    n_demanding: usize,
    need: Scalars,
    /// Sum of `need` over the children.
    children_need: Scalars,
    members: BTreeSet<Turn>,
    groups: BTreeSet<Turn>,
    /// Those of `groups` that need something.
    needy: BTreeSet<Turn>,
    turn: Option<Turn>,
    own_turn: Option<Turn>,
    is_needy: bool,
}

impl Role {
    fn new(name: String, parent: RoleNumber) -> Self {
        Self {
            name,
            parent,
            children: BTreeSet::new(),
            terms: Terms::default(),
            charged: Scalars::new(),
            own_charged: Scalars::new(),
            n_frameworks: 0,
            n_offered: 0,
            own_n_offered: 0,
            n_demanding: 0,
            need: Scalars::new(),
            children_need: Scalars::new(),
            members: BTreeSet::new(),
            groups: BTreeSet::new(),
            needy: BTreeSet::new(),
            turn: None,
            own_turn: None,
            is_needy: false,
        }
    }

    /// What its own guarantee lacks.
    pub fn unsatisfied(&self) -> Scalars {
        match self.terms.guarantee.is_empty() {
            true => Scalars::new(),
            false => self.terms.guarantee.beyond(&self.charged),
        }
    }

    /// What the guarantees in it and below it lack.
    pub fn need(&self) -> &Scalars {
        &self.need
    }

    /// Cuts an amount to what the limit still lets in.
    pub fn within_limit(&self, amount: &mut Scalars) {
        for (name, limit) in &self.terms.limit {
            let left = (limit - self.charged.get(name)).max(0);
            if amount.get(name) > left {
                amount.set(name, left);
            }
        }
    }
}

#[derive(Debug)]
pub struct Roles {
    by_name: BTreeMap<String, RoleNumber>,
    /// By number.
    roles: Vec<Option<Box<Role>>>,
    /// Numbers of roles that were forgotten.
    unused: Vec<RoleNumber>,
    /// Total of the cluster, without what is left out of shares.
    fair_total: Scalars,
    /// Anybody takes one of these.
    min_allocatable: Vec<Scalars>,
    /// Roles with terms that gave something back, so that they may have more.
    relieved: BTreeSet<RoleNumber>,
    /// What the guarantee of some role lacks is not what it was when all was offered last.
    needs_changed: bool,
    /// By whatever watchers are told of roles.
    pub noted: Touched<String>,
}

impl Roles {
    pub fn new(min_allocatable: Vec<Scalars>) -> Self {
        Self {
            by_name: BTreeMap::new(),
            roles: vec![Some(Box::new(Role::new(String::new(), ROOT)))],
            unused: Vec::new(),
            fair_total: Scalars::new(),
            min_allocatable,
            relieved: BTreeSet::new(),
            needs_changed: false,
            noted: Touched::default(),
        }
    }

    pub fn get(&self, number: RoleNumber) -> &Role {
        let role = self.roles.get(number as usize).and_then(Option::as_deref);
        role.unwrap_or_else(|| panic!("role {number} is named and not known"))
    }

    fn at(&mut self, number: RoleNumber) -> &mut Role {
        let role = self.roles.get_mut(number as usize).and_then(Option::as_deref_mut);
        role.unwrap_or_else(|| panic!("role {number} is named and not known"))
    }

    pub fn number(&self, name: &str) -> Option<RoleNumber> {
        self.by_name.get(name).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Role> {
        self.by_name.values().map(|number| self.get(*number))
    }

    /// From a role to the root, both included.
    pub fn path(&self, number: RoleNumber) -> impl Iterator<Item = (RoleNumber, &Role)> {
        let mut next = Some(number);
        std::iter::from_fn(move || {
            let number = next?;
            let role = self.get(number);
            next = (number != ROOT).then_some(role.parent);
            Some((number, role))
        })
    }

    /// The number of a role, which is made with all above it if it is new.
    fn make(&mut self, name: &str) -> RoleNumber {
        if let Some(number) = self.number(name) {
            return number;
        }
        let parent = match name.rsplit_once('/') {
            Some((above, _)) => self.make(above),
            None => ROOT,
        };
        let number = self.unused.pop().unwrap_or(self.roles.len() as RoleNumber);
        self.noted.note(name);
        self.by_name.insert(name.to_string(), number);
        let role = Some(Box::new(Role::new(name.to_string(), parent)));
        match self.roles.get_mut(number as usize) {
            Some(place) => *place = role,
            None => self.roles.push(role),
        }
        self.at(parent).children.insert(number);
        number
    }

    /// Forgets a role of which nothing is left, and those above it of which then nothing is.
    fn drop_if_idle(&mut self, mut number: RoleNumber) {
        while number != ROOT {
            let role = self.get(number);
            let is_idle = role.n_frameworks == 0 && role.children.is_empty() && role.terms.is_default();
            if !is_idle || !role.charged.is_empty() {
                return;
            }
            let (name, parent) = (role.name.clone(), role.parent);
            self.place(number, None);
            self.noted.note(&name);
            self.by_name.remove(&name);
            self.roles[number as usize] = None;
            self.unused.push(number);
            self.at(parent).children.remove(&number);
            number = parent;
        }
    }

    /// A framework joins.
    pub fn join(&mut self, name: &str) -> RoleNumber {
        let number = self.make(name);
        self.at(number).n_frameworks += 1;
        number
    }

    /// A framework leaves; it holds nothing any more and has no turn.
    pub fn leave(&mut self, number: RoleNumber) {
        self.at(number).n_frameworks -= 1;
        self.drop_if_idle(number);
    }

    pub fn set_terms(&mut self, name: &str, terms: Terms) {
        let number = self.make(name);
        self.noted.note(name);
        self.at(number).terms = terms;
        self.find_needs(number);
        self.reorder(number);
        self.drop_if_idle(number);
    }

    pub fn terms(&self, name: &str) -> Terms {
        self.number(name).map(|number| self.get(number).terms.clone()).unwrap_or_default()
    }

    // ---- what is held ----

    pub fn charge(&mut self, number: RoleNumber, amount: &Scalars) {
        self.change(number, |held| held.add(amount));
    }

    pub fn discharge(&mut self, number: RoleNumber, amount: &Scalars) {
        self.change(number, |held| {
            assert!(held.contains(amount), "{amount:?} cannot be taken from the {held:?} of a role");
            held.subtract(amount);
        });
        let with_terms = self.path(number).filter(|(_, role)| role.terms.has_quota()).last();
        self.relieved.extend(with_terms.map(|(number, _)| number));
    }

    /// The same for what no framework of the role holds.
    pub fn charge_named(&mut self, name: &str, amount: &Scalars) {
        let number = self.make(name);
        self.charge(number, amount);
        self.reorder(number);
    }

    pub fn discharge_named(&mut self, name: &str, amount: &Scalars) {
        if let Some(number) = self.number(name) {
            self.discharge(number, amount);
            self.reorder(number);
            self.drop_if_idle(number);
        }
    }

    /// Roles, each with all below it, that may have more than when this was last asked.
    pub fn take_relieved(&mut self) -> BTreeSet<RoleNumber> {
        let mut relieved = std::mem::take(&mut self.relieved);
        relieved.retain(|number| self.roles[*number as usize].is_some());
        relieved
    }

    /// Calls `each` with every framework in a role and below it that has a turn.
    pub fn each_member(&self, number: RoleNumber, each: &mut impl FnMut(u32)) {
        let role = self.get(number);
        for turn in &role.members {
            each(turn.number);
        }
        for child in &role.children {
            self.each_member(*child, each);
        }
    }

    fn change(&mut self, number: RoleNumber, change: impl Fn(&mut Scalars)) {
        change(&mut self.at(number).own_charged);
        let mut next = number;
        loop {
            let role = self.at(next);
            change(&mut role.charged);
            if next == ROOT {
                break;
            }
            next = role.parent;
        }
        self.find_needs(number);
    }

    /// What the guarantees lack, from a role upwards.
    fn find_needs(&mut self, mut number: RoleNumber) {
        while number != ROOT {
            let role = self.at(number);
            if role.terms.guarantee.is_empty() && role.children_need.is_empty() && role.need.is_empty() {
                number = role.parent;
                continue;
            }
            let need = role.unsatisfied().most(&role.children_need);
            let before = std::mem::replace(&mut role.need, need.clone());
            number = role.parent;
            if before != need {
                self.needs_changed = true;
                let above = &mut self.at(number).children_need;
                above.subtract(&before);
                above.add(&need);
            }
        }
        let root = self.at(ROOT);
        root.need.clone_from(&root.children_need);
    }

    pub fn needs_changed(&self) -> bool {
        self.needs_changed
    }

    pub fn touch_needs(&mut self) {
        self.needs_changed |= !self.need().is_empty();
    }

    /// All is offered that can be, as things are.
    pub fn settle_needs(&mut self) {
        self.needs_changed = false;
    }

    /// What is guaranteed to a role, or to those below it if that is more.
    pub fn promised(&self, number: RoleNumber) -> Scalars {
        let role = self.get(number);
        let mut below = Scalars::new();
        for child in &role.children {
            below.add(&self.promised(*child));
        }
        below.most(&role.terms.guarantee)
    }

    /// What all guarantees together lack.
    pub fn need(&self) -> &Scalars {
        &self.get(ROOT).need
    }

    /// What guarantees of the role and those above it lack, as far as it is not a sibling's.
    pub fn needed_by(&self, number: RoleNumber) -> Scalars {
        let mut needed = Scalars::new();
        if self.need().is_empty() {
            return needed;
        }
        let mut below = Scalars::new();
        for (_, role) in self.path(number) {
            let siblings = role.children_need.beyond(&below);
            needed = needed.most(&role.unsatisfied().beyond(&siblings));
            below.clone_from(&role.need);
        }
        needed
    }

    /// What the limits of the role and those above it let in of an amount.
    pub fn within_limits(&self, number: RoleNumber, amount: &Scalars) -> Scalars {
        let mut left = amount.clone();
        for (_, role) in self.path(number) {
            role.within_limit(&mut left);
        }
        left
    }
}
