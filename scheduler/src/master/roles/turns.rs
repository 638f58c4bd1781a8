//! Whose turn it is: the order of a role's frameworks, and of the roles beside each other.
//!
//! Frameworks of a role itself stand in the contest as one more child of it, before its child roles when all else is
//! equal. Siblings are compared with each other only: shares are fair at each level.
//!
//! Invariant: a member or a child stands in its role's order exactly while it could be offered something. Orders are
//! kept, and only what changed is put elsewhere.

use super::super::share::Share;
use super::{ROOT, Role, RoleNumber, Roles};
use jobs::Scalars;
use std::cmp::Reverse;

/// In the order of a role's children: its own frameworks.
const OWN: RoleNumber = ROOT;

/// A place in an order: within a role the highest priority first, then the least share, then who was offered less often,
/// then the lower number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The highest priority that is wanted for; that of roles is the same.
    pub priority: Reverse<i32>,
    pub share: Share,
    pub n_offered: u64,
    pub number: u32,
}

impl Roles {
    pub fn set_fair_total(&mut self, total: Scalars) {
        self.fair_total = total;
    }

    pub fn fair_total(&self) -> &Scalars {
        &self.fair_total
    }

    pub fn share(&self, held: &Scalars, weight: f64) -> Share {
        Share::of(held, &self.fair_total, weight)
    }

    /// Puts a member into its role's order, or takes it out.
    pub fn set_member(&mut self, number: RoleNumber, before: Option<Turn>, now: Option<Turn>) {
        let role = self.at(number);
        if let Some(turn) = before {
            role.members.remove(&turn);
        }
        role.members.extend(now);
    }

    pub fn count_demanding(&mut self, number: RoleNumber, more: isize) {
        let mut next = number;
        loop {
            let role = self.at(next);
            role.n_demanding = role.n_demanding.saturating_add_signed(more);
            if next == ROOT {
                return;
            }
            next = role.parent;
        }
    }

    pub fn n_demanding(&self) -> usize {
        self.get(ROOT).n_demanding
    }

    /// Something was offered to a framework of the role.
    pub fn count_offer(&mut self, number: RoleNumber) {
        self.at(number).own_n_offered += 1;
        let mut next = number;
        while next != ROOT {
            let role = self.at(next);
            role.n_offered += 1;
            next = role.parent;
        }
    }

    /// Puts a role, and those above it, where they belong after something in it changed.
    pub fn reorder(&mut self, mut number: RoleNumber) {
        while number != ROOT {
            self.reorder_one(number);
            number = self.get(number).parent;
        }
    }

    fn reorder_one(&mut self, number: RoleNumber) {
        let role = self.get(number);
        let own = (!role.members.is_empty()).then(|| Turn {
            priority: Reverse(0),
            share: self.share(&role.own_charged, 1.0),
            n_offered: role.own_n_offered,
            number: OWN,
        });
        let role = self.at(number);
        if role.own_turn != own {
            let before = std::mem::replace(&mut role.own_turn, own);
            if let Some(turn) = before {
                role.groups.remove(&turn);
            }
            role.groups.extend(own);
        }
        let role = self.get(number);
        let is_open = !role.groups.is_empty() && (role.n_demanding > 0 || self.has_room(role));
        let turn = is_open.then(|| Turn {
            priority: Reverse(0),
            share: self.share(&role.charged, role.terms.weight),
            n_offered: role.n_offered,
            number,
        });
        self.place(number, turn);
    }

    pub(super) fn place(&mut self, number: RoleNumber, turn: Option<Turn>) {
        let role = self.at(number);
        let is_needy = turn.is_some() && !role.need.is_empty();
        let (before, was_needy) = (role.turn, role.is_needy);
        (role.turn, role.is_needy) = (turn, is_needy);
        let parent = role.parent;
        if before == turn && was_needy == is_needy {
            return;
        }
        let above = self.at(parent);
        if let Some(before) = before {
            above.groups.remove(&before);
            above.needy.remove(&before);
        }
        above.groups.extend(turn);
        if is_needy {
            above.needy.extend(turn);
        }
    }

    /// Whether the role's own limit lets in what anybody would take.
    fn has_room(&self, role: &Role) -> bool {
        if role.terms.limit.is_empty() {
            return true;
        }
        let lets_in = |least: &Scalars| {
            least.iter().all(|(name, need)| {
                role.terms.limit.get(name).is_none_or(|limit| limit - role.charged.get(name) >= need)
            })
        };
        self.min_allocatable.iter().any(lets_in)
    }

    /// All roles anew, for the total of the cluster changed.
    pub fn reorder_all(&mut self) {
        // Each before the one above it.
        let mut numbers: Vec<RoleNumber> = self.by_name.values().copied().collect();
        numbers.sort_by_key(|number| Reverse(self.get(*number).name.matches('/').count()));
        for number in numbers {
            self.reorder_one(number);
        }
    }

    /// The first framework, in the order of turns, that `takes` says yes to.
    pub fn first(&self, takes: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        self.first_below(ROOT, takes)
    }

    /// The same among those whose guarantee, or one above them, lacks something.
    pub fn first_needy(&self, takes: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        self.first_needy_below(ROOT, takes)
    }

    fn first_below(&self, number: RoleNumber, takes: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let role = self.get(number);
        role.groups.iter().find_map(|turn| match turn.number {
            OWN => role.members.iter().map(|turn| turn.number).find(|member| takes(*member)),
            child => self.first_below(child, takes),
        })
    }

    fn first_needy_below(&self, number: RoleNumber, takes: &mut impl FnMut(u32) -> bool) -> Option<u32> {
        let role = self.get(number);
        if !role.unsatisfied().is_empty() {
            return self.first_below(number, takes);
        }
        role.needy.iter().find_map(|turn| self.first_needy_below(turn.number, takes))
    }

    /// The turns on the way from the root to a member, which decide between any two; none if a role on the way has no
    /// turn.
    pub fn turns(&self, number: RoleNumber, member: Turn) -> Option<Vec<Turn>> {
        let mut turns = vec![member, self.get(number).own_turn?];
        for (_, role) in self.path(number).filter(|(number, _)| *number != ROOT) {
            turns.push(role.turn?);
        }
        turns.reverse();
        Some(turns)
    }
}
