"""What every story is told with: the words, the people, and the story that is being told. Not run by itself.

A story keeps what it said, the questions it can answer, and the pairs such as (person, thing) that decide whether it is held out.
Words and phrases stand in lists from which one is drawn; the order of the lists and of the draws is part of the held-out sets:
another order makes other stories from the same seed.
"""
import hashlib

GIRLS = "Anna Mia Lily Emma Rosa Nora Ella Lucy Sara Ruby Ida Zoe".split()
BOYS = "Ben Tom Max Leo Sam Jack Finn Noah Paul Oscar Hugo Adam".split()
# met only in the short reports of plot_moves, so that names in general are copied from the text and not known by heart
MORE_NAMES = ("Alice Bob Mary John Peter Paula Clara Simon David Eva Julia Martin Linda George Helen Frank Maria Robert Susan Daniel Laura Mark "
              "Jane Peggy Karl Otto Lena Kim Ali Yuki Omar Priya Ivan Chloe Grace Henry Alex Robin Sofia Lukas").split()
PRONOUNS = {True: ("she", "her", "her"), False: ("he", "him", "his")}
NATURES = "little kind brave shy curious clever cheerful quiet gentle friendly young".split()
COLOURS = "red blue green yellow white silver golden orange purple brown".split()
THINGS = "ball kite book hat scarf bell doll basket lantern whistle umbrella ribbon box drum cup boat".split()
ANIMALS = "kitten puppy bird rabbit duck frog hedgehog squirrel lamb mouse owl".split()
FEED = {"kitten": ["some milk", "a piece of fish"], "puppy": ["some milk", "some bread"], "bird": ["some seeds", "some bread"],
        "rabbit": ["a carrot", "some grass"], "duck": ["some bread", "some seeds"], "frog": ["some water", "a warm place"],
        "hedgehog": ["a piece of apple", "some water"], "squirrel": ["some nuts", "some seeds"], "lamb": ["some milk", "some grass"],
        "mouse": ["some cheese", "some bread"], "owl": ["some water", "a piece of fish"]}
KNOWN_AS = {"kitten": "a cat", "puppy": "a dog", "lamb": "a sheep", "bird": "birds", "mouse": "mice"}
PETS = "Pip Milo Snow Coco Bella Patch Daisy Rusty".split()
ELDERS = "mother father grandmother grandfather aunt uncle".split()
FOODS = ["apple pie", "cake", "bread", "soup", "pancakes", "cookies"]
MISSING = "eggs flour milk butter honey sugar".split()
WARES = "bread milk honey cheese eggs apples carrots fish".split()
FRUITS = "apples pears cookies cherries plums nuts".split()
FLOWERS = ["sunflower", "rose", "tulip", "pumpkin", "apple tree", "bean"]
SEASONS = "spring summer autumn winter".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
DAYTIMES = "morning afternoon evening day".split()
SKIES = "sunny warm windy cold bright quiet cloudy".split()
# noun: preposition when one is there
PLACES = {"garden": "in", "park": "in", "forest": "in", "meadow": "in", "barn": "in", "library": "in", "kitchen": "in",
          "market": "at", "fair": "at", "shop": "in", "school": "at", "beach": "at", "river": "by", "lake": "by", "mill": "at", "village square": "in"}
MOVE_PLACES = [p for p in PLACES if p not in ("fair", "shop")]
OUTDOORS = "garden park forest meadow beach river lake".split()
INDOORS = "kitchen attic pantry barn hall cellar".split()
SHELTERS = ["barn", "old mill", "small cave", "wooden hut", "stable", "boat house"]
SPOTS = ["under a bench", "behind a tree", "in the tall grass", "next to the well", "under a bush", "behind a big rock",
         "behind the wall", "near the gate", "beside the road", "under an old boat", "between two stones", "near the bridge"]
HOMES = ["in a small village", "in a little house by the river", "on a farm", "near the sea", "in a small town",
         "at the edge of the forest", "in a tall house with a red roof", "in a quiet valley", "near a big lake"]
NUMBERS = "zero one two three four five six seven eight nine ten".split()


def held_out(kind, *parts, one_in=10):
    digest = hashlib.sha256("|".join([kind, *map(str, parts)]).encode()).digest()
    return int.from_bytes(digest[:4], "little") % one_in == 0


def a(phrase):
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def cap(text):
    return text[0].upper() + text[1:]


def at(place):
    return f"{PLACES.get(place, 'in')} the {place}"


class Story:
    """One story being told: its sentences, the questions it can answer, and the pairs that decide its split."""

    def __init__(self, r):
        self.r, self.parts, self.qa, self.pairs, self.topics = r, [[]], [], [], []

    def say(self, *choices):
        self.parts[-1].append(self.r.choice(choices))

    def maybe(self, chance, *choices):
        if self.r.random() < chance:
            self.say(*choices)

    def paragraph(self):
        if self.parts[-1]:
            self.parts.append([])

    def ask(self, question, short, full):
        """question may be a list of phrasings; short is the plain answer, full the sentence used in chat."""
        self.qa.append((self.r.choice(question) if isinstance(question, list) else question, short, full))

    def person(self, *others):
        taken = {o.name for o in others}
        while True:
            girl = self.r.random() < 0.5
            name = self.r.choice(GIRLS if girl else BOYS)
            if name not in taken:
                return Person(name, girl)

    def thing(self):
        return self.r.choice(COLOURS), self.r.choice(THINGS)

    def text(self):
        return "\n\n".join(" ".join(p) for p in self.parts if p)


class Person:
    def __init__(self, name, girl):
        self.name, self.girl = name, girl
        self.he, self.him, self.his = PRONOUNS[girl]
        self.kind = "girl" if girl else "boy"

    def __str__(self):
        return self.name


def when(s, seasons=SEASONS):
    """A time that opens a sentence, with its comma. Given seasons other than all, one of them is always named."""
    sky, day, season = s.r.choice(SKIES), s.r.choice(DAYTIMES), s.r.choice(seasons)
    if season == "winter" and sky in ("warm", "sunny"):
        sky = "cold"
    if season == "summer" and sky == "cold":
        sky = "warm"
    with_season = [f"One day in {season},", f"On {a(sky)} {season} day,", f"One {season} {day},"]
    if len(seasons) == 1:
        return s.r.choice(with_season)
    return s.r.choice([f"One {sky} {day},", f"One {sky} {day},", f"One {day},", f"One {s.r.choice(DAYS)},", *with_season[:2]])


def introduce(s, p):
    nature, home = s.r.choice(NATURES), s.r.choice(HOMES)
    elder = s.r.choice(ELDERS)
    roll = s.r.random()
    if roll < 0.5:
        s.say(f"Once upon a time, there was {a(nature)} {p.kind} named {p}.",
              f"Once upon a time, there was {a(nature)} {p.kind} named {p} who lived {home}.",
              f"Once upon a time there was {a(nature)} {p.kind} called {p}.",
              f"Once upon a time, {a(nature)} {p.kind} named {p} lived {home}.",
              f"Once upon a time, {home}, there lived {a(nature)} {p.kind} named {p}.")
    elif roll < 0.9:
        s.say(f"There was once {a(nature)} {p.kind} named {p}.",
              f"{p} was {a(nature)} {p.kind} who lived {home}.",
              f"Long ago, {a(nature)} {p.kind} named {p} lived {home}.",
              f"{cap(home)} lived {a(nature)} {p.kind} named {p}.",
              f"{p} lived {home} with {p.his} {elder}.",
              f"This is a story about {a(nature)} {p.kind} named {p}.")
    else:
        return
    s.maybe(0.35, f"{cap(p.he)} liked to {s.r.choice(['sing', 'run', 'read', 'draw', 'climb trees', 'watch the clouds'])}.",
            f"Everyone liked {p} because {p.he} was always kind.",
            f"{cap(p.he)} was {s.r.choice(NUMBERS[5:10])} years old.",
            f"{p} had many friends.", f"{p} loved to play outside.")


def ending(s, *people, at_home=False):
    names = " and ".join(str(p) for p in people)
    if len(people) > 1:
        s.say(f"{names} were very happy.", "It was a wonderful day.", f"From that day on, {names} were the best of friends.",
              f"{names} smiled at each other.", "They never forgot that day.", "And they lived happily ever after.",
              *([] if at_home else ["They laughed all the way home.", "In the evening they went home, tired but happy.",
                                    f"{names} played together until the sun went down."]))
    else:
        p = people[0]
        s.say(f"{p} was very happy.", "It was a wonderful day.", f"{p} felt very proud.", f"{p} never forgot that day.",
              f"That night {p} slept very well.", f"{p} went to bed with a smile.", f"And {p} lived happily ever after.")


def ask_colour(s, colour, noun):
    spelling = "color" if s.r.random() < 0.15 else "colour"
    s.ask(f"What {spelling} was the {noun}?", colour, f"The {noun} was {colour}.")
