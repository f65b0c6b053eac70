//! A table of things that are numbered as they come: 1, 2, 3…, no number twice.
//!
//! Law: looking up is three steps whatever the table holds, and it is gone through in the order of its
//! numbers. What was removed costs next to nothing: entries lie on pages and pages on shelves, and
//! what is empty is given back.

/// Entries of a page.
const PAGE: usize = 64;
/// Pages of a shelf.
const SHELF: usize = 1024;

/// Entries by their numbers.
pub(super) struct Table<T> {
    shelves: Vec<Option<Box<Shelf<T>>>>,
    /// The number of the next entry.
    next: u64,
    live: usize,
}

struct Shelf<T> {
    pages: [Option<Box<Page<T>>>; SHELF],
    live: usize,
}

struct Page<T> {
    entries: [Option<Box<T>>; PAGE],
    live: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self::numbered_from(0)
    }
}

/// The shelf of a number, the page on it, and the place on that.
fn place(number: u64) -> (usize, usize, usize) {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    (number / PAGE / SHELF, number / PAGE % SHELF, number % PAGE)
}

impl<T> Table<T> {
    /// An empty table whose first entry has this number.
    pub(super) fn numbered_from(first: u64) -> Self {
        Self { shelves: Vec::new(), next: first, live: 0 }
    }

    /// The number of the next entry.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Adds an entry, and tells its number.
    pub(super) fn push(&mut self, entry: T) -> u64 {
        let number = self.next;
        self.next += 1;
        let (shelf, page, at) = place(number);
        if self.shelves.len() <= shelf {
            self.shelves.resize_with(shelf + 1, || None);
        }
        let new = || Box::new(Shelf { pages: [const { None }; SHELF], live: 0 });
        let shelf = self.shelves[shelf].get_or_insert_with(new);
        let page = match &mut shelf.pages[page] {
            Some(page) => page,
            empty => {
                shelf.live += 1;
                empty.insert(Box::new(Page { entries: [const { None }; PAGE], live: 0 }))
            }
        };
        page.entries[at] = Some(Box::new(entry));
        page.live += 1;
        self.live += 1;
        number
    }

    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let (shelf, page, at) = place(number);
        self.shelves.get(shelf)?.as_ref()?.pages[page].as_ref()?.entries[at].as_deref()
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (shelf, page, at) = place(number);
        self.shelves.get_mut(shelf)?.as_mut()?.pages[page].as_mut()?.entries[at].as_deref_mut()
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<T> {
        let (shelf, page, at) = place(number);
        let (next_shelf, next_page, _) = place(self.next);
        let slot = self.shelves.get_mut(shelf)?;
        let on_shelf = slot.as_mut()?;
        let on_page = on_shelf.pages[page].as_mut()?;
        let entry = on_page.entries[at].take()?;
        on_page.live -= 1;
        self.live -= 1;
        // Where the next entry goes stays: the last entry of a page, once removed, takes it along.
        if on_page.live == 0 && (shelf, page) != (next_shelf, next_page) {
            on_shelf.pages[page] = None;
            on_shelf.live -= 1;
        }
        if on_shelf.live == 0 && shelf != next_shelf {
            *slot = None;
        }
        Some(*entry)
    }

    fn pages(&self) -> impl Iterator<Item = (usize, &Page<T>)> {
        let shelves = self.shelves.iter().enumerate();
        let shelves = shelves.filter_map(|(number, shelf)| Some((number, shelf.as_deref()?)));
        shelves.flat_map(|(number, shelf)| {
            let pages = shelf.pages.iter().enumerate();
            pages.filter_map(move |(at, page)| Some((number * SHELF + at, page.as_deref()?)))
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.live
    }

    /// All, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.pages().flat_map(|(number, page)| {
            let entries = page.entries.iter().enumerate();
            entries.filter_map(move |(at, entry)| {
                Some(((number * PAGE + at) as u64, entry.as_deref()?))
            })
        })
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, entry)| entry)
    }

    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        let shelves = self.shelves.iter_mut().filter_map(Option::as_deref_mut);
        let pages = shelves.flat_map(|shelf| shelf.pages.iter_mut());
        let pages = pages.filter_map(Option::as_deref_mut);
        pages.flat_map(|page| page.entries.iter_mut().filter_map(Option::as_deref_mut))
    }

    /// The numbers of all.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.iter().map(|(number, _)| number).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It is a map whose keys are given in order.
        #[test]
        fn a_table_is_a_map(steps in proptest::collection::vec(0u64..400, 0..600)) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for step in steps {
                match step {
                    number @ 0..100 => {
                        prop_assert_eq!(table.remove(number * 2), map.remove(&(number * 2)));
                    }
                    value => {
                        let number = table.push(value);
                        prop_assert!(map.insert(number, value).is_none());
                    }
                }
                prop_assert_eq!(table.get(step), map.get(&step));
                prop_assert_eq!(table.get_mut(step), map.get_mut(&step));
                prop_assert_eq!(table.len(), map.len());
            }
            table.values_mut().for_each(|value| *value += 1);
            map.values_mut().for_each(|value| *value += 1);
            let all: BTreeMap<_, _> = table.iter().map(|(number, value)| (number, *value)).collect();
            prop_assert_eq!(all, map.clone());
            prop_assert_eq!(table.numbers(), map.into_keys().collect::<Vec<_>>());
        }
    }

    #[test]
    fn pages_that_are_empty_are_given_back() {
        let mut table = Table::default();
        for number in 0..200_000 {
            table.push(number);
            table.remove(number);
        }
        assert!(table.pages().count() <= 1);
        assert!(table.shelves.iter().flatten().count() <= 1);
    }
}
