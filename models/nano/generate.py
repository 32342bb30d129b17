"""Text for the nano model: little stories, questions about them, small sums and chats, all made from a seed.

A document is a list of (text, weight) segments: the weight says how much the training loss of those characters counts
(questions and separators count little, stories and answers fully). Nothing here is read from anywhere: every sentence is
written below, and people, things, places and times are tracked while a story is told, so that its questions have true answers.

Held-out by construction:
  sums       the operands (an addition counts as its sorted pair) are hashed; one in ten is never trained on
  questions  every story declares pairs such as (person, thing); they are hashed; a story with a held-out pair is never
             trained on, and the held-out questions are asked only about stories whose first pair is held out

Usage:  generate.py --sample 5 [--kind story|qa|sum|chat] [--seed 1]      print documents
        generate.py --heldout heldout.jsonl [--seed 1]                    write the held-out set
"""
import argparse
import hashlib
import json
import random

BOS, EOS, BOT, EOT = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<|BOT|>", "<|EOT|>"

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


def plot_lost(s):
    p = s.person()
    f = s.person(p)
    colour, noun = s.thing()
    place, spot = s.r.choice(OUTDOORS), s.r.choice(SPOTS)
    elder = s.r.choice(ELDERS)
    s.pairs += [(p, f"{colour} {noun}"), (f, place)]
    s.topics += [f"a lost {noun}", f"{a(colour)} {noun}", f"{p} and {f}", f"{a(p.kind)} who lost {p.his} {noun}"]
    introduce(s, p)
    s.say(f"{p} had {a(colour)} {noun}.", f"{p} had a beautiful {colour} {noun}.", f"{p}'s favourite thing was {a(colour)} {noun}.")
    gift = s.r.random() < 0.5
    if gift:
        s.say(f"It was a present from {p.his} {elder}.", f"{cap(p.his)} {elder} had given it to {p.him}.")
    s.maybe(0.4, f"{cap(p.he)} took it everywhere.", f"{cap(p.he)} loved the {noun} very much.")
    s.say(f"{when(s)} {p} took the {noun} to the {place}.", f"{when(s)} {p} went to the {place} with the {noun}.")
    s.maybe(0.6, f"{cap(p.he)} played there until lunch.", f"{cap(p.he)} sat down and looked at the water and the sky."
            if place in ("river", "lake", "beach") else f"{cap(p.he)} ran and jumped and sang.",
            f"There {p.he} played for a long time.")
    s.paragraph()
    s.say(f"But when {p.he} wanted to go home, the {noun} was gone!", f"But then {p.he} saw that the {noun} was gone.",
          f"On the way home, {p} saw that {p.he} had lost the {noun}.")
    s.say(f"{p} was very sad.", f"{p} began to cry.", f"{p} looked everywhere, but {p.he} could not find it.")
    s.say(f"{cap(p.his)} friend {f} came to help.", f"{p} asked {p.his} friend {f} for help.",
          f"Then {f} came along. \"I will help you,\" said {f}.", f"\"Do not worry,\" said {p.his} friend {f}. \"We will find it.\"")
    decoy = s.r.choice([x for x in SPOTS if x != spot])
    s.maybe(0.5, f"They looked {decoy}, but it was not there.", f"First they looked {decoy}, but there was nothing there.")
    s.say(f"At last {f} found the {noun} {spot}.", f"Then {f} found the {noun} {spot}.", f"After a while, {f} found the {noun} {spot}.")
    s.maybe(0.5, f"\"Here it is!\" said {f}.", f"\"Look what I have found!\" said {f}.")
    s.say(f"\"Thank you, {f}!\" said {p}.", f"{p} gave {f} a big hug.", f"{p} thanked {f} many times.")
    ending(s, p, f)
    s.ask([f"What did {p} lose?", f"Which thing did {p} lose?"], f"{a(colour)} {noun}", f"{p} lost {a(colour)} {noun}.")
    s.ask(f"Who lost the {noun}?", str(p), f"{p} lost the {noun}.")
    s.ask(f"Who found the {noun}?", str(f), f"{f} found the {noun}.")
    s.ask([f"Where was the {noun}?", f"Where did {f} find the {noun}?"], spot, f"{f} found the {noun} {spot}.")
    s.ask([f"Where did {p} go?", f"Where did {p} take the {noun}?"], f"to the {place}", f"{p} went to the {place}.")
    ask_colour(s, colour, noun)
    if gift:
        s.ask(f"Who gave the {noun} to {p}?", f"{p.his} {elder}", f"{cap(p.his)} {elder} gave the {noun} to {p}.")


def plot_birthday(s):
    p = s.person()
    f = s.person(p)
    colour, noun = s.thing()
    elder, place = s.r.choice(ELDERS), s.r.choice(["market", "village square", "shop", "fair"])
    day = s.r.choice(DAYS)
    s.pairs += [(p, f"{colour} {noun}"), (f, noun)]
    s.topics += [f"a birthday", f"{a(colour)} {noun}", f"{p} and {f}", f"a birthday present"]
    introduce(s, p)
    s.say(f"On {day} it was {f}'s birthday.", f"It was {day}, and it was the birthday of {p.his} friend {f}."
          if s.parts[0] else f"It was {day}, and it was {f}'s birthday.")
    if not s.parts[0][:-1]:
        s.say(f"{f} had a good friend named {p}.", f"{f} had invited {p}.")
    s.say(f"{p} wanted to give {f} a present.", f"\"I need a present for {f},\" said {p}.", f"{p} thought about a present for a long time.")
    s.say(f"So {p.he} went to the {place} with {p.his} {elder}.", f"So {p} and {p.his} {elder} went to the {place}.")
    s.say(f"There they saw many pretty things.", f"There was an old man who sold all kinds of things.", f"There {p.he} looked at everything.")
    s.say(f"{p} bought {a(colour)} {noun}.", f"In the end {p} chose {a(colour)} {noun}.", f"Then {p} found {a(colour)} {noun}. It was perfect.")
    s.paragraph()
    s.say(f"In the afternoon {p} went to {f}'s house.", f"When {p} came to the party, {f} opened the door.", f"Then {p} ran to {f}'s house.")
    s.say(f"\"Happy birthday, {f}!\" said {p} and gave {f.him} the {noun}.", f"{p} gave {f} the {noun} and sang a song.",
          f"\"This {noun} is for you,\" said {p}.")
    s.say(f"{f} was so happy that {f.he} danced.", f"\"Thank you! It is beautiful,\" said {f}.", f"{f} smiled and hugged {p}.",
          f"{f} loved the {noun}.")
    s.maybe(0.7, "Then they all ate cake.", "They ate cake and played games.", f"{f}'s {s.r.choice(ELDERS)} brought a big cake.")
    ending(s, p, f)
    s.ask([f"What did {p} give {f}?", f"What did {p} give to {f}?", f"What did {p} buy?"], f"{a(colour)} {noun}",
          f"It was {a(colour)} {noun}.")
    s.ask("Whose birthday was it?", f"{f}'s", f"It was {f}'s birthday.")
    s.ask([f"Who went to the {place} with {p}?"], f"{p.his} {elder}", f"{cap(p.his)} {elder} went with {p.him}.")
    s.ask([f"Where did {p} buy the {noun}?", f"Where did {p} find the {noun}?"], at(place), f"{p} found the {noun} {at(place)}.")
    s.ask([f"Who got the {noun}?", f"Who has the {noun} now?"], str(f), f"{f} has the {noun} now.")
    s.ask([f"On which day was the birthday?", "What day was it?"], day, f"It was {day}.")
    ask_colour(s, colour, noun)


def plot_rescue(s):
    p = s.person()
    animal, place, spot = s.r.choice(ANIMALS), s.r.choice(OUTDOORS), s.r.choice(SPOTS)
    size = s.r.choice("tiny small little white grey brown".split())
    food = s.r.choice(FEED[animal])
    name, elder = s.r.choice(PETS), s.r.choice(ELDERS)
    s.pairs += [(p, animal), (p, place)]
    s.topics += [f"{a(animal)}", f"{a(size)} {animal}", f"{a(p.kind)} and {a(animal)}", f"{p} and {a(animal)}", KNOWN_AS.get(animal, a(animal)), "an animal"]
    introduce(s, p)
    s.say(f"{when(s)} {p} was walking {'by' if place in ('river', 'lake') else 'in' if place != 'beach' else 'on'} the {place}.",
          f"{when(s)} {p} went to the {place} with {p.his} {elder}.", f"{when(s)} {p} went for a walk to the {place}.")
    s.say("Suddenly, there was a strange sound.", f"Then {p.he} heard a soft sound.", f"\"What is that?\" said {p}.", "Something moved.")
    s.say(f"{cap(spot)} sat {a(size)} {animal}.", f"There was {a(size)} {animal} {spot}.", f"{p} looked around and saw {a(size)} {animal} {spot}.")
    mood = s.r.choice(["cold", "hungry", "tired", "hurt", "lost", "afraid"])
    s.say(f"The {animal} was {mood}.", f"The poor {animal} was {mood}.", f"It was {mood} and all alone.")
    s.paragraph()
    s.say(f"\"I will help you,\" said {p}.", f"\"Do not be afraid,\" said {p} softly.", f"{p} wanted to help.")
    s.say(f"{cap(p.he)} carried the {animal} home and gave it {food}.", f"{cap(p.he)} took the {animal} home in {p.his} arms and gave it {food}.",
          f"{cap(p.he)} gave the {animal} {food} and took it home.")
    s.maybe(0.6, f"{cap(p.his)} {elder} made a warm bed for it.", f"\"May I keep it?\" {p} asked. {cap(p.his)} {elder} said yes.",
            f"Soon the {animal} felt much better.")
    s.say(f"{p} called the {animal} {name}.", f"{p} named it {name}.", f"\"Your name is {name},\" said {p}.")
    s.say(f"Every day {p} and {name} played together.", f"{name} followed {p} everywhere.", f"{p} and {name} became the best of friends.",
          f"From then on, {name} slept at the foot of {p}'s bed.")
    s.maybe(0.6, f"{p} was never lonely again.", "They had many adventures together.", f"And {name} was never {mood} again.")
    s.ask([f"What did {p} find?", f"Which animal did {p} find?"], f"{a(size)} {animal}", f"{p} found {a(size)} {animal}.")
    s.ask([f"Where was the {animal}?", f"Where did {p} find the {animal}?"], spot, f"The {animal} was {spot}.")
    s.ask(f"What did {p} give the {animal}?", food, f"{p} gave the {animal} {food}.")
    s.ask([f"What was the name of the {animal}?", f"What did {p} call the {animal}?"], name, f"The name of the {animal} was {name}.")
    s.ask([f"How did the {animal} feel?", f"How was the {animal}?"], mood, f"The {animal} was {mood}.")
    s.ask([f"Who helped the {animal}?", f"Who found the {animal}?"], str(p), f"{p} helped the {animal}.")


def plot_bake(s):
    p = s.person()
    f = s.person(p)
    elder, food, missing = s.r.choice(ELDERS), s.r.choice(FOODS), s.r.choice(MISSING)
    dish = food if food in ("bread", "soup", "pancakes", "cookies") else a(food)
    seller = s.r.choice(["farmer", "baker", "neighbour", "miller"])
    verb = "make" if food in ("soup", "pancakes") else "bake"
    done = "made" if verb == "make" else "baked"
    s.pairs += [(p, food), (f, missing)]
    s.topics += [dish, f"{p} and {f}", f"{p} and {p.his} {elder}", "cooking"]
    introduce(s, p)
    s.say(f"{when(s)} {p} and {p.his} {elder} wanted to {verb} {dish}.", f"{when(s)} {p}'s {elder} said, \"Let us {verb} {dish}!\"")
    s.maybe(0.5, f"{p} washed {p.his} hands and put on a white apron.", f"{p} was very excited.", "They put a big bowl on the table.")
    s.say(f"But there was no {missing} in the house." if missing not in ("eggs",) else "But there were no eggs in the house.",
          f"\"Oh no, we have no {missing}!\" said {p}.")
    s.say(f"So {p} ran to the {seller} and asked for some {missing}.", f"\"Please go to the {seller} and get some {missing},\" said {p.his} {elder}.")
    s.say(f"The {seller} smiled and gave {p.him} a full basket.", f"The {seller} was happy to help.", f"\"Here you are, {p},\" said the {seller}.")
    s.paragraph()
    s.say(f"Then they {done} {dish} together.", f"Back at home, they {done} {dish}.", f"When {p} came back, they {done} {dish}.")
    s.say("Soon the whole house smelled wonderful.", "It smelled so good!", "It took a long time, but it was worth it.")
    s.say(f"{p}'s friend {f} came and ate with them.", f"{p} took some of it to {p.his} friend {f}.", f"Then {f} knocked at the door, and they shared it with {f.him}.")
    s.say(f"\"This is the best {food} in the world!\" said {f}." if food not in ("pancakes", "cookies") else
          f"\"These are the best {food} in the world!\" said {f}.", f"{f} asked for more.", f"{f} ate until {f.he} was full.")
    ending(s, p, f, at_home=True)
    s.ask([f"What did {p} and {p.his} {elder} {verb}?", f"What did they {verb}?"], dish, f"They {done} {dish}.")
    s.ask(["What was missing?", "What did they not have?"], missing, f"They had no {missing}.")
    s.ask([f"Who helped {p} {verb} the {food}?", f"Who {done} with {p}?"], f"{p.his} {elder}", f"{cap(p.his)} {elder} helped {p.him}.")
    s.ask([f"Who gave {p} the {missing}?"], f"the {seller}" , f"{p} got the {missing} from the {seller}.")
    s.ask([f"Which friend of {p} ate some of the {food}?", f"Who ate the {food} with them?"], str(f), f"{f} ate some of the {food}.")


def plot_rain(s):
    p = s.person()
    f = s.person(p)
    place, shelter = s.r.choice(OUTDOORS), s.r.choice(SHELTERS)
    animal, elder = s.r.choice(ANIMALS), s.r.choice(ELDERS)
    game = s.r.choice(["were playing with a ball", "were flying a kite", "were picking flowers", "were having a picnic", "were looking for stones"])
    drink = s.r.choice(["hot soup", "warm milk", "hot tea", "warm bread"])
    s.pairs += [(p, shelter), (f, animal)]
    s.topics += ["the rain", "a storm", f"{p} and {f}", f"a day at the {place}", "a rainbow"]
    introduce(s, p)
    s.say(f"{when(s, ['spring', 'summer', 'autumn'])} {p} and {p.his} friend {f} {game} {at(place)}.")
    s.say("Suddenly dark clouds came.", "Then the sky turned grey.", "The wind grew strong and the sky grew dark.")
    s.say("It began to rain.", "Big drops of rain fell from the sky.", "Soon it was raining hard.")
    s.say(f"\"Quick, let us hide in the {shelter}!\" said {f}.", f"They ran to the {shelter} as fast as they could.",
          f"{p} saw {a(shelter)}, and they ran inside.")
    s.paragraph()
    s.say(f"In the {shelter} there was {a(animal)}.", f"Inside they met {a(animal)}. It was hiding from the rain, too.", f"{cap(a(animal))} was already there.")
    s.say(f"They were not afraid, and the {animal} was not afraid, either.", f"{p} told a funny story, and {f} laughed.",
          "They sat close together and waited.", f"{f} sang a song until the rain stopped.")
    s.say("At last the rain stopped, and there was a rainbow in the sky.", "When the sun came out again, they saw a big rainbow.",
          "After an hour the rain was over. \"Look, a rainbow!\" they said.")
    s.say(f"Then they went home, and {p}'s {elder} gave them {drink}.", f"At home, {p}'s {elder} gave them {drink}.")
    ending(s, p, f, at_home=True)
    s.ask([f"Where were {p} and {f}?", f"Where did {p} and {f} play?"], at(place), f"They were {at(place)}.")
    s.ask([f"Where did they hide?", f"Where did {p} and {f} hide?"], f"in the {shelter}", f"They hid in the {shelter}.")
    s.ask([f"Which animal was in the {shelter}?", f"What animal did they meet?"], f"{a(animal)}", f"They met {a(animal)}.")
    s.ask(["What did they see in the sky?"], "a rainbow", "They saw a rainbow.")
    s.ask([f"What did {p}'s {elder} give them?"], drink, f"{p}'s {elder} gave them {drink}.")
    s.ask([f"Who was with {p}?", f"Who was {p}'s friend?"], str(f), f"{f} was with {p}.")


def plot_seed(s):
    p = s.person()
    flower, elder, place = s.r.choice(FLOWERS), s.r.choice(ELDERS), s.r.choice(["garden", "meadow", "park"])
    who = s.r.choice([e for e in ELDERS if e != elder])
    season = s.r.choice(["spring", "summer", "autumn"])
    s.pairs += [(p, flower), (p, elder)]
    s.topics += ["a seed", a(flower), f"{a(p.kind)} and {p.his} {elder}", "a garden"]
    introduce(s, p)
    s.say(f"{when(s)} {p.his if s.parts[0] else p.name + chr(39) + 's'} {elder} gave {p.him if s.parts[0] else p.name} a small seed.")
    s.say(f"\"What will it be?\" asked {p}. \"Wait and see,\" said {p.his} {elder}.", f"\"Take good care of it,\" said {p.his} {elder}.")
    s.say(f"{p} planted the seed {at(place)}.", f"So {p} dug a small hole {at(place)} and put the seed into it.")
    s.say(f"Every morning {p.he} gave it water.", f"{cap(p.he)} gave it water every day.")
    s.paragraph()
    s.say("For a long time, nothing happened.", "Days went by, and nothing could be seen.", "At first there was only brown earth.")
    s.maybe(0.6, f"{p} was sad, but {p.he} did not give up.", f"\"Be patient,\" said {p.his} {who}.", f"But {p} went on and waited.")
    s.say(f"Then, in {season}, a green leaf came out of the ground.", f"But one day in {season}, there was a little green leaf.")
    s.say(f"It grew and grew, and soon it was a beautiful {flower}.", f"It became the biggest {flower} in the village.",
          f"It was {a(flower)}! It was taller than {p}.")
    s.say(f"{p} showed it to {p.his} {elder}. \"Well done,\" said {p.his} {elder}.", f"\"I am proud of you,\" said {p.his} {elder}.",
          f"All the people came to look at it.")
    ending(s, p)
    s.ask([f"Who gave {p} the seed?", f"Who gave the seed to {p}?"], f"{p.his} {elder}", f"{cap(p.his)} {elder} gave {p} the seed.")
    s.ask([f"Where did {p} plant the seed?", "Where was the seed?"], at(place), f"{p} planted the seed {at(place)}.")
    s.ask(["What grew from the seed?", "What did the seed become?"], a(flower), f"The seed became {a(flower)}.")
    s.ask(["When did the leaf come out?", "When did the first leaf come?"], f"in {season}", f"The leaf came out in {season}.")
    s.ask([f"Who planted the seed?"], str(p), f"{p} planted the seed.")


def plot_noise(s):
    p = s.person()
    animal, room = s.r.choice(ANIMALS), s.r.choice(INDOORS)
    colour = s.r.choice(COLOURS)
    food = s.r.choice(["cheese", "bread", "cake", "an apple", "a cookie"])
    elder = s.r.choice(ELDERS)
    s.pairs += [(p, f"{animal} {room}"), (p, f"{colour} lantern")]
    s.topics += ["a strange noise", f"{a(animal)} {'at night'}", "the night", f"a brave {p.kind}"]
    introduce(s, p)
    s.say(f"One night {p} could not sleep.", f"One dark night, {p} was lying in bed.", f"It was late, and {p} was in bed.")
    s.say(f"{cap(p.he)} heard a noise in the {room}.", f"There was a noise in the {room}.", f"Then something went bump in the {room}.")
    s.say(f"\"Who is there?\" said {p}, but nobody answered.", f"{p} was a little afraid, but {p.he} was brave.", f"{p}'s heart was beating fast.")
    s.say(f"{p} took {a(colour)} lantern and went to the {room}.", f"{cap(p.he)} took {a(colour)} lantern and walked to the {room} on tiptoe.")
    s.paragraph()
    s.say("What was that? Two eyes were shining in the dark!", f"Slowly {p.he} opened the door.", "Something small was moving there.")
    s.say(f"It was only {a(animal)}. It was eating {food}.", f"There sat {a(animal)}, eating {food}.", f"{cap(a(animal))} was eating {food}.")
    s.say(f"{p} laughed and laughed.", f"\"So it was you!\" said {p}.", f"\"You are a funny little thief,\" said {p}.")
    s.say(f"{p} told {p.his} {elder} about it in the morning.", f"Then {p.his} {elder} came, and they laughed together.",
          f"{cap(p.his)} {elder} woke up, too, and they all had some warm milk.")
    s.say(f"After that {p} was not afraid of the dark any more.", f"Then {p} went back to bed and slept until morning.",
          f"{p} went back to bed with a smile.")
    s.ask([f"Where was the noise?", f"Where did {p} hear a noise?"], f"in the {room}", f"The noise was in the {room}.")
    s.ask([f"What was eating {food}?", "What made the noise?"], a(animal), f"It was {a(animal)}.")
    s.ask([f"What did the {animal} eat?", f"What was the {animal} eating?"], food, f"The {animal} was eating {food}.")
    s.ask([f"What did {p} take to the {room}?", f"What did {p} take?"], f"{a(colour)} lantern", f"{p} took {a(colour)} lantern.")
    ask_colour(s, colour, "lantern")


def plot_build(s):
    p = s.person()
    f = s.person(p)
    work, place = s.r.choice([("snowman", "park"), ("snowman", "garden"), ("sandcastle", "beach"), ("tree house", "forest"),
                              ("tree house", "garden"), ("tower", "meadow"), ("raft", "river"), ("raft", "lake")])
    colour, noun = s.r.choice(COLOURS), s.r.choice(["hat", "scarf", "ribbon", "bell", "lantern", "cup"])
    days = s.r.choice(NUMBERS[2:8])
    s.pairs += [(p, f"{colour} {noun}"), (f, work)]
    s.topics += [a(work), f"{p} and {f}", f"two friends and {a(work)}"]
    introduce(s, p)
    start = when(s, ["winter"] if work == "snowman" else ["spring", "summer", "autumn"])
    s.say(f"{start} {p} and {f} wanted to build {a(work)} {at(place)}.", f"{start} {p} said to {p.his} friend {f}, \"Let us build {a(work)} {at(place)}.\"")
    s.say(f"They worked for {days} hours.", f"It took them {days} hours.")
    s.maybe(0.7, f"{p} carried the heavy things, and {f} had the best ideas.", "It was hard work, but they did not stop.",
            f"{f} laughed a lot, and {p} sang a song.")
    s.say(f"Then it was almost ready. \"Something is missing,\" said {f}.", "In the end only one thing was missing.",
          f"\"It needs something special,\" said {f}.")
    s.say(f"{p} ran home and came back with {a(colour)} {noun}.", f"So {p} brought {a(colour)} {noun} from home.")
    s.say(f"They put the {noun} on top of the {work}.", f"Now the {work} looked perfect with the {colour} {noun}.")
    s.paragraph()
    if s.r.random() < 0.5:
        s.say(f"In the night a strong wind came, and the {work} fell down.", f"But the next day, the {work} was broken.")
        s.say("\"Never mind,\" they said. \"We will build it again.\" And they did.", "They were sad, but then they built it again, even bigger.")
    else:
        s.say(f"Everyone came to see the {work}.", f"\"That is the best {work} of all!\" said {p}'s {s.r.choice(ELDERS)}.")
    ending(s, p, f)
    s.ask([f"What did {p} and {f} build?", "What did they build?"], a(work), f"They built {a(work)}.")
    s.ask([f"Where did they build the {work}?", f"Where was the {work}?"], at(place), f"They built the {work} {at(place)}.")
    s.ask([f"What did {p} bring from home?", f"What did {p} bring?"], f"{a(colour)} {noun}", f"{p} brought {a(colour)} {noun}.")
    s.ask([f"How many hours did they work?", "How long did they work?"], f"{days} hours", f"They worked for {days} hours.")
    s.ask([f"Who helped {p}?", f"Who built the {work} with {p}?"], str(f), f"{f} helped {p}.")
    ask_colour(s, colour, noun)


def plot_errand(s):
    p = s.person()
    f = s.person(p)
    elder = s.r.choice(ELDERS)
    one, two, three = s.r.sample(WARES, 3)
    s.pairs += [(p, f"{one} {two}"), (f, three)]
    s.topics += ["the market", f"{p} and {f}", f"a {p.kind} who forgot something"]
    introduce(s, p)
    start = when(s)
    s.say(f"{start} {p.his if s.parts[0] else p.name + chr(39) + 's'} {elder} said, \"{p}, please go to the market and buy {one}, {two} and {three}.\"")
    s.say(f"{p} took a basket and set off.", f"\"I will,\" said {p} and ran down the road.", f"{p} was proud that {p.he} could go alone.")
    s.say(f"On the way {p.he} met {f}, and they talked for a long time.", f"On the road {p.he} met {p.his} friend {f}. They played for a while.")
    s.say(f"At the market {p} bought {one} and {two}.", f"Then {p} bought {one} and {two} at the market.")
    s.say("But there was one more thing. What was it?", f"But {p.he} had forgotten the third thing.")
    s.paragraph()
    s.say(f"{p} thought and thought.", f"{p} sat down and tried to remember.", f"\"Oh no,\" said {p}.")
    s.say(f"\"Was it {three}?\" asked {f}. \"Yes, it was {three}!\" said {p}.", f"\"Maybe it was {three},\" said {f}. \"Yes!\" said {p}.")
    s.say(f"So {p} bought the {three} and carried everything home.", f"Quickly {p} bought the {three} and ran home.")
    s.say(f"\"Well done,\" said {p.his} {elder}.", f"{cap(p.his)} {elder} was very pleased.", f"{cap(p.his)} {elder} gave {p.him} a big hug.")
    ending(s, p, at_home=True)
    s.ask([f"What did {p} forget?", f"What had {p} forgotten?"], three, f"{p} forgot the {three}.")
    s.ask([f"Who did {p} meet?", f"Who did {p} meet on the way?"], str(f), f"{p} met {f}.")
    s.ask([f"Who sent {p} to the market?"], f"{p.his} {elder}", f"{cap(p.his)} {elder} sent {p} to the market.")
    s.ask(f"Where did {p} go?", "to the market", f"{p} went to the market.")
    s.ask(f"Where did {p} buy the {three}?", "at the market", f"{p} bought the {three} at the market.")
    s.ask([f"What did {p} buy first?"], f"{one} and {two}", f"{p} bought {one} and {two} first.")


def plot_share(s):
    p = s.person()
    f = s.person(p)
    fruit, place = s.r.choice(FRUITS), s.r.choice(["school", "park", "meadow", "lake", "beach"])
    mine = s.r.randint(3, 9)
    gave = s.r.randint(1, mine - 1)
    s.pairs += [(p, f"{fruit} {mine}"), (f, fruit)]
    s.topics += ["sharing", fruit, f"{p} and {f}", "two friends"]
    introduce(s, p)
    s.say(f"{when(s)} {p} went to the {place}.", f"{when(s)} {p} was sitting {at(place)}.")
    s.say(f"{cap(p.he)} had {NUMBERS[mine]} {fruit} in {p.his} bag.", f"In {p.his} bag there were {NUMBERS[mine]} {fruit}.")
    s.say(f"There {p.he} met {f}.", f"Then {f} came along.")
    s.say(f"{f} had nothing to eat.", f"\"I am so hungry,\" said {f}.", f"{f} had forgotten {f.his} lunch.")
    amount = f"{NUMBERS[gave]} of the {fruit}"
    s.say(f"{p} gave {f} {amount}.", f"\"Here you are,\" said {p} and gave {f} {amount}.")
    s.say(f"\"Thank you, {p}!\" said {f}.", f"{f} was not hungry any more.", f"{f} ate and smiled.")
    s.paragraph()
    gift = s.r.choice(["a warm cake", "a paper bird", "a small picture", "some flowers", "a shiny stone"])
    s.say(f"The next day, {f} brought {p} {gift}.", f"On the next day {f} came with {gift} for {p}.")
    s.say("\"Good friends share,\" they said.", f"\"You are a good friend,\" said {f}.", f"{p} was surprised and very glad.")
    ending(s, p, f)
    s.ask([f"How many {fruit} did {p} have?", f"How many {fruit} did {p} have at first?"], NUMBERS[mine],
          f"{p} had {NUMBERS[mine]} {fruit}.")
    s.ask([f"How many {fruit} did {p} give {f}?", f"How many {fruit} did {f} get?"], NUMBERS[gave], f"{f} got {NUMBERS[gave]} of the {fruit}.")
    s.ask([f"What did {f} bring {p}?", f"What did {f} give {p}?"], gift, f"{f} brought {p} {gift}.")
    s.ask([f"Who was hungry?"], str(f), f"{f} was hungry.")
    s.ask([f"Where did {p} meet {f}?", f"Where was {p}?"], at(place), f"{p} was {at(place)}.")
    s.ask([f"What did {p} have in {p.his} bag?"], f"{NUMBERS[mine]} {fruit}", f"{p} had {NUMBERS[mine]} {fruit} in {p.his} bag.")


def plot_hide(s):
    p = s.person()
    f = s.person(p)
    g = s.person(p, f)
    place = s.r.choice(["garden", "park", "forest", "barn", "meadow"])
    one, two = s.r.sample(SPOTS, 2)
    s.pairs += [(f, one), (g, two)]
    s.topics += ["hide and seek", "a game", f"{p}, {f} and {g}", "three friends"]
    introduce(s, p)
    s.say(f"{when(s)} {p}, {f} and {g} played hide and seek {at(place)}.", f"{when(s)} three friends, {p}, {f} and {g}, played hide and seek {at(place)}.")
    s.say(f"{p} closed {p.his} eyes and counted to ten.", f"{p} counted to ten.", f"{p} had to count to ten.")
    s.say(f"{f} hid {one}, and {g} hid {two}.", f"{f} quickly hid {one}. {g} hid {two}.")
    s.paragraph()
    s.say(f"\"I am coming!\" said {p}.", f"Then {p} began to look for them.", f"{p} looked everywhere.")
    s.say(f"First {p} found {f}.", f"After a while {p} found {f}.")
    s.say(f"But where was {g}?", f"But {p} could not find {g}.", f"Only {g} was still hiding.")
    s.say(f"Then {g} sneezed, and {p} found {g.him}, too.", f"Then {p} saw {g}'s shoe and laughed.", f"At last {g} began to laugh, and {p} found {g.him}.")
    s.say(f"{g} had won the game.", f"\"You win, {g}!\" said {p}.")
    s.say("Then they played again.", "They played until it was dark.", "It was the best game of all.", "After the game they ate apples in the sun.")
    s.maybe(0.5, "It was a wonderful day.", "They never forgot that day.")
    s.ask(f"Where did {f} hide?", one, f"{f} hid {one}.")
    s.ask(f"Where did {g} hide?", two, f"{g} hid {two}.")
    s.ask([f"Who counted to ten?"], str(p), f"{p} counted to ten.")
    s.ask([f"Who was found first?", f"Who did {p} find first?"], str(f), f"{p} found {f} first.")
    s.ask(["Who won the game?", "Who won?"], str(g), f"{g} won the game.")
    s.ask([f"Where did they play?"], at(place), f"They played {at(place)}.")


def plot_moves(s):
    """A short report of who goes where and who has what; only the last state counts."""
    people, count = [], s.r.randint(2, 3)
    other_names = s.r.random() < 0.25
    while len(people) < count:
        people.append(s.person(*people))
        if other_names:
            people[-1].name = s.r.choice([n for n in MORE_NAMES if n not in [p.name for p in people[:-1]]])
    things = []
    while len(things) < s.r.randint(1, 2):
        t = s.thing()
        if t[1] not in [x[1] for x in things]:
            things.append(t)
    where, holder = {}, {}
    s.topics += [f"{people[0]} and {people[1]}"]
    for p in people if s.r.random() < 0.75 else []:
        where[p] = s.r.choice(MOVE_PLACES)
        s.say(f"{p} went to the {where[p]}.", f"{p} is {at(where[p])}.")
    for i, (colour, noun) in enumerate(things):
        holder[noun] = s.r.choice([p for p in people if p not in holder.values()])
        s.pairs.append((holder[noun], f"{colour} {noun}"))
        s.say(f"{holder[noun]} has {a(colour)} {noun}.", f"{holder[noun]} took {a(colour)} {noun}.", f"{holder[noun]} found {a(colour)} {noun}.")
    for _ in range(s.r.randint(0, 4)):
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


TALES = [plot_lost, plot_birthday, plot_rescue, plot_bake, plot_rain, plot_seed, plot_noise, plot_build, plot_errand, plot_share, plot_hide]


def story(r, plots=TALES, want_held_out=False):
    while True:
        s = Story(r)
        r.choice(plots)(s)
        held = [held_out("pair", x, y, one_in=16) for x, y in s.pairs]
        if want_held_out and held[0] or not want_held_out and not any(held):
            return s


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


# ---- documents --------------------------------------------------------------------------------------------------------

FORMS = [("Question:", "\nAnswer:", "\n"), ("Question:", " Answer:", "\n"), ("Q:", "\nA:", "\n")]
LOW, TOLD = 0.05, 0.4  # of what cannot be known; of a story, where much is a matter of taste


def doc_story(r):
    text = story(r).text()
    if r.random() < 0.06:  # begin in the middle, at a sentence
        sentences = text.split(". ")
        text = ". ".join(sentences[r.randint(1, min(4, len(sentences) - 2)):]).lstrip("\n")
    return [(text, TOLD), (EOS, 1.0)]


def asked(r, s, count):
    return r.sample(s.qa, min(count, len(s.qa)))


def doc_qa(r):
    s = story(r, TALES + [plot_moves] * 22)
    head = r.choices(["", "Story: ", "Read the story.\n\n"], [6, 3, 1])[0]
    q, ans, sep = r.choices(FORMS, [6, 3, 1])[0]
    out = [(head, 0.0), (s.text(), TOLD / 2 if len(s.parts) > 1 else LOW)]
    between = r.choice(["\n\n", "\n\n", "\n", " "])
    for question, short, _ in asked(r, s, r.choice([2, 4, 6, 9, 9])):
        out += [(f"{between}{q} {question}{ans}", LOW / 5), (f" {short}", 3.0)]
        between = sep
    return out + [(EOS, 1.0)]


def doc_sum(r):
    out, sep = [], ""
    bare = r.random() < 0.4
    q, ans, _ = r.choices(FORMS, [6, 3, 1])[0]
    for _ in range(r.randint(1, 8)):
        op, x, y, z = operands(r)
        if not bare and r.random() < 0.08:
            text, short, _ = told_sum(r)
            out += [(f"{sep}{q} {text}{ans}", LOW / 5), (f" {short}", 3.0)]
        elif bare:
            form = r.choice([f"{x} {op} {y} =", f"{x} {op} {y} =", f"{x}{op}{y}="])
            out += [(sep + form, LOW / 5), (f" {z}" if " " in form else f"{z}", 3.0)]
        else:
            out += [(f"{sep}{q} {sum_question(r, op, x, y)}{ans}", LOW / 5), (f" {z}", 3.0)]
        sep = "\n"
    return out + [(EOS, 1.0)]


GREETINGS = ["Hello!", "Hello", "Hi", "Hi!", "Hey", "Good morning!", "Good evening!", "Hello, how are you?", "How are you?"]
THANKS = ["Thank you.", "Thank you!", "Thanks!", "Thanks", "That was nice.", "Well done!", "Great!", "Goodbye.", "Bye!", "Good night."]
WHO = ["Who are you?", "What are you?", "What is your name?", "What can you do?", "Help", "What do you know?", "Can you help me?",
       "What should I ask you?", "Are you a person?"]
ABILITIES = "I can tell little stories, answer questions about them, and do small sums."
UNKNOWN_SUBJECTS = ["the capital of France", "the moon", "a computer", "the weather tomorrow", "the meaning of life", "the news", "a car",
                    "the president", "Python", "the best film", "history", "the time", "a recipe", "music", "London", "the speed of light",
                    "China", "mathematics", "the stock market", "football", "a black hole", "English grammar", "the law", "the internet"]
UNKNOWN_FORMS = ["What is {}?", "Tell me about {}.", "Explain {}.", "What do you think about {}?", "Who invented {}?", "Why is {} important?",
                 "Can you explain {}?", "Write an essay about {}.", "How does {} work?", "Do you know {}?", "What is the name of {}?"]
ASK_STORY = ["Tell me a story.", "Tell me a story", "Please tell me a story.", "Tell me a little story.", "Can you tell me a story?",
             "Write a short story.", "I want to hear a story.", "Tell me another story.", "One more story, please."]
ASK_ABOUT = ["Tell me a story about {}.", "Tell me a story about {}.", "Write a story about {}.", "Can you tell me a story about {}?",
             "Please tell me a story about {}.", "A story about {}, please.", "Tell me a little story about {}."]


def user(text):
    return [(f"{BOT}user\n", 0.0), (text, LOW / 5), (f"{EOT}{BOT}assistant\n", 0.0)]


def turn(text, weight):
    return [(text, weight), (EOT, 1.0)]


def small_talk(r):
    roll = r.random()
    if roll < 0.2:
        hello = r.choice(GREETINGS)
        return user(hello) + turn(("Hello! I am fine. " if "how are" in hello.lower() else "Hello! ") + ABILITIES, 0.5)
    if roll < 0.35:
        return user(r.choice(THANKS)) + turn("You are welcome.", 0.5)
    if roll < 0.6:
        return user(r.choice(WHO)) + turn(f"I am a very small language model. {ABILITIES}", 0.5)
    question = r.choice(UNKNOWN_FORMS).format(r.choice(UNKNOWN_SUBJECTS))
    if r.random() < 0.15:
        question = question.lower()
    return user(question) + turn(f"I do not know that. {ABILITIES}", 0.5)


def doc_chat(r):
    """A conversation of some turns. A system text, where there is one, stands before the first turn without a role."""
    out = [(r.choice(["You are a helpful assistant.", "You tell stories."]), 0.0)] if r.random() < 0.08 else []
    for _ in range(r.choice([1, 1, 2, 3, 4])):
        roll = r.random()
        if roll < 0.2:
            for _ in range(r.randint(1, 5)):
                op, x, y, z = operands(r)
                if r.random() < 0.12:
                    text, _, full = told_sum(r)
                    out += user(text) + turn(full, 3.0)
                    continue
                question = sum_question(r, op, x, y)
                if r.random() < 0.15:
                    question = question[0].lower() + question[1:].rstrip("?.")
                out += user(question) + turn(f"{x} {op} {y} = {z}.", 3.0)
        elif roll < 0.88:
            s = story(r, TALES + [plot_moves] * 22)
            given = r.random() < 0.85
            questions = asked(r, s, r.randint(2, 7))
            if given:
                first = questions.pop(0)
                glue = r.choice(["\n\n", "\n\n", "\n", " "])
                out += user(f"{s.text()}{glue}{first[0]}") + turn(first[2], 3.0)
            else:
                s = story(r)
                questions = asked(r, s, r.randint(1, 3))
                out += user(r.choice(ASK_STORY)) + turn(s.text(), TOLD)
            for question, _, full in questions:
                out += user(question) + turn(full, 3.0)
        elif roll < 0.95:
            s = story(r)
            ask = r.choice(ASK_STORY) if r.random() < 0.4 else r.choice(ASK_ABOUT).format(r.choice(s.topics))
            out += user(ask) + turn(s.text(), TOLD)
        else:
            out += small_talk(r)
    return out


def doc_echo(r):
    """A list of random words, two to four times: it teaches looking back early in training, and nothing else."""
    pool = GIRLS + BOYS + MORE_NAMES + NATURES + COLOURS + THINGS + ANIMALS + PETS + ELDERS + WARES + DAYS + list(PLACES)
    words = " ".join(r.choice(pool) for _ in range(r.randint(5, 30)))
    return [(words, 0.0)] + [(f"\n{words}", 1.0)] * r.randint(1, 3) + [(EOS, 1.0)]


KINDS = {"story": (doc_story, 0.08), "qa": (doc_qa, 0.50), "sum": (doc_sum, 0.14), "chat": (doc_chat, 0.28)}


def document(r, echo=0.0):
    """One training document: segments with bos in front of all chats and of most plain texts. echo: the share of doc_echo."""
    if r.random() < echo:
        return doc_echo(r)
    kind = r.choices(list(KINDS), [w for _, w in KINDS.values()])[0]
    segments = KINDS[kind][0](r)
    if kind == "chat" or r.random() < 0.7:
        segments = [(BOS, 0.0)] + segments
    return segments


# ---- the held-out set -------------------------------------------------------------------------------------------------

def heldout(r, sums=200, questions=200):
    """Items of four groups, plain and chat forms of the same tasks: {group, prompt, expected}. The prompt is complete
    (the chat form with its role tokens) except for the bos token; an answer ends at a newline or a stop token."""
    seen = set()
    for _ in range(sums):
        while True:
            op, x, y, z = operands(r, want_held_out=True)
            if (op, x, y) not in seen:
                break
        seen.add((op, x, y))
        q = f"What is {x} {op} {y}?"
        yield {"group": "sum-plain", "prompt": f"Question: {q}\nAnswer:", "expected": str(z)}
        yield {"group": "sum-chat", "prompt": f"{BOT}user\n{q}{EOT}{BOT}assistant\n", "expected": f"{x} {op} {y} = {z}."}
    for _ in range(questions):
        s = story(r, TALES + [plot_moves] * 4, want_held_out=True)
        q, short, full = r.choice(s.qa)
        yield {"group": "question-plain", "prompt": f"{s.text()}\n\nQuestion: {q}\nAnswer:", "expected": short}
        yield {"group": "question-chat", "prompt": f"{BOT}user\n{s.text()}\n\n{q}{EOT}{BOT}assistant\n", "expected": full}


def main():
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--sample", type=int, default=0)
    cli.add_argument("--kind", choices=list(KINDS))
    cli.add_argument("--heldout")
    cli.add_argument("--seed", type=int, default=1)
    args = cli.parse_args()
    r = random.Random(args.seed)
    for _ in range(args.sample):
        segments = KINDS[args.kind][0](r) if args.kind else document(r)
        print("".join(t for t, _ in segments), end="\n\n----\n")
    if args.heldout:
        with open(args.heldout, "w", encoding="utf-8") as f:
            for item in heldout(r):
                f.write(json.dumps(item, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
