"""The eleven kinds of stories, a plot each, and the choice among plots. Not run by itself; generate.py --sample 5 --kind story shows some.

A plot draws its people, things and places, tells every step in one of several ways, and asks about what it has drawn,
so the answers are true whichever way the story was told.
"""
from telling import (ANIMALS, COLOURS, DAYS, ELDERS, FEED, FLOWERS, FOODS, FRUITS, INDOORS, KNOWN_AS, MISSING, NUMBERS, OUTDOORS, PETS, SHELTERS, SPOTS, WARES,
                     Story, a, ask_colour, at, cap, ending, held_out, introduce, when)


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
    s.topics += ["a birthday", f"{a(colour)} {noun}", f"{p} and {f}", "a birthday present"]
    introduce(s, p)
    s.say(f"On {day} it was {f}'s birthday.", f"It was {day}, and it was the birthday of {p.his} friend {f}."
          if s.parts[0] else f"It was {day}, and it was {f}'s birthday.")
    if not s.parts[0][:-1]:
        s.say(f"{f} had a good friend named {p}.", f"{f} had invited {p}.")
    s.say(f"{p} wanted to give {f} a present.", f"\"I need a present for {f},\" said {p}.", f"{p} thought about a present for a long time.")
    s.say(f"So {p.he} went to the {place} with {p.his} {elder}.", f"So {p} and {p.his} {elder} went to the {place}.")
    s.say("There they saw many pretty things.", "There was an old man who sold all kinds of things.", f"There {p.he} looked at everything.")
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
    s.ask(["On which day was the birthday?", "What day was it?"], day, f"It was {day}.")
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
    s.ask(["Where did they hide?", f"Where did {p} and {f} hide?"], f"in the {shelter}", f"They hid in the {shelter}.")
    s.ask([f"Which animal was in the {shelter}?", "What animal did they meet?"], f"{a(animal)}", f"They met {a(animal)}.")
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
          "All the people came to look at it.")
    ending(s, p)
    s.ask([f"Who gave {p} the seed?", f"Who gave the seed to {p}?"], f"{p.his} {elder}", f"{cap(p.his)} {elder} gave {p} the seed.")
    s.ask([f"Where did {p} plant the seed?", "Where was the seed?"], at(place), f"{p} planted the seed {at(place)}.")
    s.ask(["What grew from the seed?", "What did the seed become?"], a(flower), f"The seed became {a(flower)}.")
    s.ask(["When did the leaf come out?", "When did the first leaf come?"], f"in {season}", f"The leaf came out in {season}.")
    s.ask(["Who planted the seed?"], str(p), f"{p} planted the seed.")


def plot_noise(s):
    p = s.person()
    animal, room = s.r.choice(ANIMALS), s.r.choice(INDOORS)
    colour = s.r.choice(COLOURS)
    food = s.r.choice(["cheese", "bread", "cake", "an apple", "a cookie"])
    elder = s.r.choice(ELDERS)
    s.pairs += [(p, f"{animal} {room}"), (p, f"{colour} lantern")]
    s.topics += ["a strange noise", f"{a(animal)} at night", "the night", f"a brave {p.kind}"]
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
    s.ask(["Where was the noise?", f"Where did {p} hear a noise?"], f"in the {room}", f"The noise was in the {room}.")
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
    s.ask(["How many hours did they work?", "How long did they work?"], f"{days} hours", f"They worked for {days} hours.")
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
    s.ask(["Who was hungry?"], str(f), f"{f} was hungry.")
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
    s.ask(["Who counted to ten?"], str(p), f"{p} counted to ten.")
    s.ask(["Who was found first?", f"Who did {p} find first?"], str(f), f"{p} found {f} first.")
    s.ask(["Who won the game?", "Who won?"], str(g), f"{g} won the game.")
    s.ask(["Where did they play?"], at(place), f"They played {at(place)}.")


TALES = [plot_lost, plot_birthday, plot_rescue, plot_bake, plot_rain, plot_seed, plot_noise, plot_build, plot_errand, plot_share, plot_hide]


def story(r, plots=TALES, want_held_out=False):
    while True:
        s = Story(r)
        r.choice(plots)(s)
        held = [held_out("pair", x, y, one_in=16) for x, y in s.pairs]
        if want_held_out and held[0] or not want_held_out and not any(held):
            return s
