"""What is made to be asked about: short reports of who goes where and who has what, and sums. Not run by itself.

A report is a plot like those of tales.py, but only the last state counts, so its answers must be looked up. A sum has one answer.
generate.py --sample 5 --kind sum (or qa) shows some.
"""
from telling import FRUITS, MORE_NAMES, MOVE_PLACES, NUMBERS, Story, a, at, cap, held_out


def plot_moves(s, people_most=3, things_most=2, steps_most=4):
    """A short report of who goes where and who has what; only the last state counts."""
    people, count = [], s.r.randint(2, people_most)
    other_names = s.r.random() < 0.25
    while len(people) < count:
        people.append(s.person(*people))
        if other_names:
            people[-1].name = s.r.choice([n for n in MORE_NAMES if n not in [p.name for p in people[:-1]]])
    things = []
    while len(things) < s.r.randint(1, things_most):
        t = s.thing()
        if t[1] not in [x[1] for x in things]:
            things.append(t)
    where, holder = {}, {}
    s.topics += [f"{people[0]} and {people[1]}"]
    for p in people if s.r.random() < 0.75 else []:
        where[p] = s.r.choice(MOVE_PLACES)
        s.say(f"{p} went to the {where[p]}.", f"{p} is {at(where[p])}.")
    for i, (colour, noun) in enumerate(things):
        holder[noun] = s.r.choice([p for p in people if p not in holder.values()] or people)
        s.pairs.append((holder[noun], f"{colour} {noun}"))
        s.say(f"{holder[noun]} has {a(colour)} {noun}.", f"{holder[noun]} took {a(colour)} {noun}.", f"{holder[noun]} found {a(colour)} {noun}.")
    for _ in range(s.r.randint(0, steps_most)):
        if s.r.random() < 0.5:
            p = s.r.choice(people)
            where[p] = s.r.choice([x for x in MOVE_PLACES if x != where.get(p)])
            s.say(f"Then {p} went to the {where[p]}.", f"After that, {p} went to the {where[p]}.", f"{p} walked to the {where[p]}.")
        else:
            noun = s.r.choice(list(holder))
            to = s.r.choice([p for p in people if p is not holder[noun]])
            s.say(f"{holder[noun]} gave the {noun} to {to}.", f"Then {holder[noun]} gave the {noun} to {to}.")
            holder[noun] = to
    for p in where:
        s.ask([f"Where is {p}?", f"Where is {p} now?"], at(where[p]), f"{p} is {at(where[p])}.")
    for colour, noun in things:
        s.ask([f"Who has the {noun}?", f"Who has the {noun} now?"], str(holder[noun]), f"{holder[noun]} has the {noun}.")
        s.ask([f"What {'color' if s.r.random() < 0.15 else 'colour'} is the {noun}?"], colour, f"The {noun} is {colour}.")


def long_report(s):
    """More people and things than the held-out reports have: what was said of whom must be looked up."""
    plot_moves(s, 5, 4, 6)


# ---- sums -------------------------------------------------------------------------------------------------------------

def operands(r, want_held_out=False):
    while True:
        op = r.choice("+-")
        x, y = r.randint(0, 99), r.randint(0, 99)
        if op == "-" and x < y and (want_held_out or r.random() < 0.85):
            x, y = y, x
        key = (op, min(x, y), max(x, y)) if op == "+" else (op, x, y)
        if held_out("sum", *key) == want_held_out:
            return op, x, y, (x + y if op == "+" else x - y)


def sum_question(r, op, x, y):
    word = "plus" if op == "+" else "minus"
    return r.choices([f"What is {x} {op} {y}?", f"How much is {x} {op} {y}?", f"What is {x} {word} {y}?", f"{x} {op} {y} = ?",
                      f"{x} {op} {y}", f"{x}{op}{y}", f"Calculate {x} {op} {y}."], [10, 2, 2, 1, 2, 1, 1])[0]


def told_sum(r):
    """A sum as a tiny story: text with its question, the number, and the full answer."""
    while True:
        op, x, y, z = operands(r)
        if z >= 0 and max(x, y) <= 30 and x > 1 and y > 1:
            break
    s = Story(r)
    p = s.person()
    f = s.person(p)
    fruit = r.choice(FRUITS)
    n, m = (x, y) if r.random() < 0.8 or max(x, y) > 10 or y < 2 else (NUMBERS[x], NUMBERS[y])
    start = r.choice([f"{p} has {n} {fruit}.", f"There are {n} {fruit} in {p}'s basket."])
    if op == "+":
        change = r.choice([f"{f} gives {p} {m} more.", f"{f} gives {p.him} {m} more {fruit}.", f"Then {p.he} finds {m} more {fruit}."])
    else:
        change = r.choice([f"{cap(p.he)} gives {m} {fruit} to {f}.", f"{p} gives {f} {m} of them.", f"{cap(p.he)} eats {m} of them."])
    question = r.choice([f"How many {fruit} does {p} have now?", f"How many {fruit} does {p} have?"])
    one = {"cherries": "cherry"}.get(fruit, fruit[:-1])
    return f"{start} {change} {question}", str(z), f"{x} {op} {y} = {z}. {p} has {z} {one if z == 1 else fruit}."
