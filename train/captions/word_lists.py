"""Word lists for reading short English photo captions: data, and the few rules that inflect it.

Collected by hand from what caption writers use most; a word that is missing only means that a caption
supports fewer questions, never a wrong one.
"""

from __future__ import annotations


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def plural_of(noun: str) -> str:
    """Regular English plural, with the irregular nouns of captions: "dog" -> "dogs", "man" -> "men"."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith("man") and len(noun) > 4:
        return noun[:-3] + "men"
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def article_for(phrase: str) -> str:
    """ "a" or "an" by the first sound: "a unicycle", "an hour", "an elephant"."""
    word = phrase.lower()
    if word.startswith(("uni", "one", "eu", "use", "u-")):
        return "a"
    return "an" if word[0] in "aeiou" or word.startswith("hour") else "a"


IRREGULAR_PLURALS = {
    "man": "men", "woman": "women", "child": "children", "person": "people", "goose": "geese",
    "sheep": "sheep", "fish": "fish", "deer": "deer", "leaf": "leaves", "foot": "feet", "knife": "knives",
    "calf": "calves",
}  # fmt: skip

STOP_WORDS = _set(
    "a an the this that these those some any each every another other others one it its he his him she "
    "her hers they their them there here who whom which what while as and or but nor so if than then "
    "in on at by of off to from up down out over under into onto upon through across along around near "
    "with without for about against behind beside between above below after before during toward "
    "towards next is are was were be been being am has have had having do does did doing not no very "
    "just also both s t n't 's while whilst where when how all many several few lot lots something "
    "someone outside inside together away back itself himself herself themselves own same such only "
    "can will would could i you we my your our us"
)
# Words that captions of one photo use for the same thing, under one of them.
SYNONYMS = {
    "grey": "gray", "blonde": "blond", "young": "little", "small": "little", "big": "large", "huge": "large",
    "guy": "man", "gentleman": "man", "lady": "woman", "kid": "child", "toddler": "child", "puppy": "dog",
    "leap": "jump", "sprint": "run", "trot": "run", "jog": "run", "toss": "throw", "lay": "lie",
    "cycle": "bike", "hallway": "hall", "pavement": "concrete", "lawn": "grass",
    "grassy": "grass", "snowy": "snow", "sandy": "sand", "rocky": "rock", "wooded": "woods",
    "forest": "woods",
    "road": "street", "bicycle": "bike", "motorbike": "motorcycle", "slope": "hill", "trail": "path",
    "sea": "ocean", "couch": "sofa", "elderly": "old", "older": "old", "photo": "picture",
    "mid-air": "midair",
    "airborne": "midair", "air": "midair", "observe": "watch", "shoreline": "shore",
}  # fmt: skip
COLOURS = _set(
    "black white brown red blue green yellow orange purple pink grey gray tan golden blond blonde "
    "beige silver"
)
NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8}
NUMBER_WORDS = frozenset(NUMBERS)
DETERMINERS = _set("a an the this one another some several many") | NUMBER_WORDS

MALE = _set("man boy guy gentleman groom policeman fisherman cowboy")
FEMALE = _set("woman girl lady bride")
YOUNG = _set("boy girl child kid toddler baby infant")
PERSON_NOUNS = (
    MALE
    | FEMALE
    | _set(
        "person child kid toddler baby infant teenager adult player skateboarder snowboarder skier "
        "surfer biker rider climber cyclist bicyclist motorcyclist hiker runner racer wrestler goalie "
        "swimmer worker clown jockey gymnast dancer musician officer athlete photographer diver skater "
        "kayaker rollerblader driver coach cheerleader performer footballer jogger wakeboarder singer "
        "soldier student tourist chef friend mother father bull-rider shopper pedestrian boater "
        "guitarist boxer"
    )
)
DOG_NOUNS = _set(
    "dog puppy greyhound poodle retriever terrier collie shepherd beagle bulldog pitbull doberman "
    "husky lab labrador dalmatian dachshund rottweiler chihuahua spaniel hound schnauzer corgi"
)
BIRD_NOUNS = _set(
    "bird pigeon seagull gull duck goose swan eagle hawk parrot chicken rooster flamingo pelican"
)
ANIMAL_NOUNS = (
    DOG_NOUNS
    | BIRD_NOUNS
    | _set(
        "animal cat kitten horse pony cow calf bull sheep lamb goat camel elephant bear monkey zebra "
        "giraffe deer rabbit fish tiger lion donkey pig squirrel turtle butterfly lizard snake frog "
        "crab"
    )
)
VEHICLE_NOUNS = _set(
    "car truck bus train boat motorcycle motorbike bike bicycle airplane plane helicopter jeep van "
    "kayak canoe raft sled scooter tractor ship sailboat"
)
GROUP_NOUNS = _set("group crowd couple pair bunch pack team band family flock herd line number")
SUBJECT_NOUNS = PERSON_NOUNS | ANIMAL_NOUNS | VEHICLE_NOUNS

# Things that captions place, hold, ride or wear; nouns for the ends of phrases.
THING_NOUNS = VEHICLE_NOUNS | _set(
    "ball frisbee stick toy rope leash bat racket guitar camera umbrella flag kite balloon skateboard "
    "snowboard surfboard ski helmet hat cap shirt jacket dress coat sweater backpack bag bottle cup "
    "glass cigarette book newspaper phone cellphone sign bench chair table couch bed swing slide "
    "trampoline ramp rail railing hurdle fence wall rock log tree branch bush flower leaf bridge "
    "building house tent waterfall fountain sprinkler hose puddle wave hill cliff mountain pole "
    "obstacle bar tunnel tire wheel microphone drum piano violin cake pizza sandwich banana apple "
    "plate bowl laptop computer television bone tennis soccer football basketball baseball hockey "
    "volleyball rugby cricket golf wheelchair stroller hoop net goal basket picture water snow sand "
    "grass mud dirt ice air food fish drink hand face mouth unicycle merry-go-round carousel horseback "
    "bubble wheelie trick camel seesaw ladder"
)
PLACE_NOUNS = _set(
    "snow water beach grass field street road park pool ocean sea lake river stream sand sidewalk "
    "woods forest mountain hill yard backyard lawn bench couch bed court track stage playground path "
    "trail trampoline ramp rock cliff city room kitchen restaurant store stadium bridge ice shore mud "
    "desert garden gym swing slide boat train subway crowd fountain puddle surf dirt carpet rug "
    "bleachers market driveway"
)
# The preposition that says where one is, for places that captions also run through or jump into.
PLACE_PREPOSITIONS = {
    "beach": "on", "street": "on", "road": "on", "sidewalk": "on", "bench": "on", "couch": "on", "bed": "on",
    "court": "on", "track": "on", "stage": "on", "path": "on", "trail": "on", "trampoline": "on",
    "ramp": "on",
    "rock": "on", "cliff": "on", "bridge": "on", "ice": "on", "shore": "on", "hill": "on", "mountain": "on",
    "lawn": "on", "swing": "on", "slide": "on", "boat": "on", "train": "on", "subway": "on", "carpet": "on",
    "rug": "on", "bleachers": "on", "driveway": "on", "playground": "on",
}  # fmt: skip

MODIFIERS = (
    COLOURS
    | _set(
        "young little small old older elderly large big tiny tall short long long-haired short-haired "
        "fluffy furry shaggy wet muddy dirty bald bearded shirtless male female asian african american "
        "indian german golden dark light lone teenage adult baby toddler middle-aged barefoot happy "
        "smiling blond-haired blonde-haired dark-haired brown-haired red-haired redheaded white-haired "
        "haired brunette naked topless spotted muzzled racing sumo professional beautiful pretty cute "
        "skinny huge giant homeless uniformed colored light-colored dark-colored colorful curly "
        "curly-haired masked black-haired chubby wild stuffed football soccer basketball baseball "
        "tennis hockey volleyball rugby softball cricket lacrosse mountain bmx dirt motocross race "
        "police toy rock ice scuba street golden sheep border cocker jack russell boston labrador "
        "siberian border german yorkshire st st. bernard bull pit skate roller inline field school "
        "miniature english irish grown family two-toned multicolored costumed helmeted older hunting "
        "wooden"
    )
    | SUBJECT_NOUNS
)

# What a subject can be seen doing: base forms.
_VERBS = _set(
    "run jump play stand sit hold walk ride look climb smile swim carry pose watch race take chase lie "
    "hang perform talk make fly eat dance swing slide leap fight splash skateboard drink wait lean "
    "catch ski pull laugh throw fish surf read fall bite skate hike drive kick hug push blow dive "
    "shake smoke snowboard sleep wrestle stare cross point kiss chew wade dig roll grind shoot paddle "
    "lick reach sing hit balance float spin land bark rollerblade kneel fetch sniff kayak bike jog row "
    "bounce retrieve tackle crouch march box speak raft camp toss bend cry spray rest crawl paint cook "
    "cut dribble flip wave pet herd grab swing do stretch trot gallop wakeboard waterski cycle sprint "
    "practice bathe feed shovel sled juggle"
)
_DOUBLED = _set("run sit swim hug dig spin jog hit cut pet grab trot flip sled swing")
_DOUBLED -= {"swing"}
_IRREGULAR_ING = {"lie": "lying", "ski": "skiing", "waterski": "waterskiing", "dye": "dyeing"}


def _ing(verb: str) -> str:
    if verb in _IRREGULAR_ING:
        return _IRREGULAR_ING[verb]
    if verb in _DOUBLED:
        return verb + verb[-1] + "ing"
    return (verb[:-1] if verb.endswith("e") else verb) + "ing"


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "z", "ch", "sh")):
        return verb + "es"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb[:-1] + "ies"
    return verb + "s"


# The near-synonyms that captions of one photo mix; they count as the same action.
_SAME_ACTION = {"leaping": "jumping", "sprinting": "running", "trotting": "running", "jogging": "running"}
_SAME_ACTION |= {"laying": "lying", "cycling": "biking", "smoking": "smoking", "tossing": "throwing"}

ING_FORMS = {_ing(verb): verb for verb in sorted(_VERBS)} | {"laying": "lie"}
SINGULAR_FORMS = {_third_person(verb): _ing(verb) for verb in sorted(_VERBS)} | {"lays": "lying"}
PLURAL_FORMS = {verb: _ing(verb) for verb in sorted(_VERBS)} | {"lay": "lying"}


def same_action(ing: str) -> str:
    """The action under which an -ing form is counted: "leaping" and "jumping" are one."""
    return _SAME_ACTION.get(ing, ing)


FINITE_AUXILIARIES = _set(
    "is are was were has have does do can gets get goes go wears wear looks look tries try"
)
PREPOSITIONS = _set(
    "in on at with of by near through from to into over down up along across for around behind beside "
    "under next against onto off during between among toward towards above outside inside past after "
    "before while as and or that which who whose , without atop below upon amid amidst"
)

# Words in -s that are no verbs, beyond the plurals of known nouns.
NEVER_VERBS = _set(
    "his its this across towards outdoors indoors grass tennis shorts pants arms trees jeans "
    "sunglasses glasses woods hands others clothes flowers shoes boots goggles trunks legs stairs "
    "bushes bleachers poles sports upside-down backwards besides various christmas gymnastics "
    "swimsuits outfits costumes uniforms headphones"
)

PLURALS = {plural_of(noun): noun for noun in sorted(SUBJECT_NOUNS | THING_NOUNS | PLACE_NOUNS)}
NOUNS = SUBJECT_NOUNS | THING_NOUNS | PLACE_NOUNS | frozenset(PLURALS)
PAIRED_CLOTHES = _set("shorts jeans pants trunks goggles gloves shoes boots sunglasses overalls")
CLOTHES = _set("shirt jacket dress hat helmet coat cap sweater uniform jersey vest suit") | PAIRED_CLOTHES

# A thing to ask about that is not there, and the words that make its presence possible after all.
ABSENT: dict[str, frozenset[str]] = {
    "dog": DOG_NOUNS | _set("animal leash pet"),
    "cat": _set("kitten animal pet kitty"),
    "horse": _set("pony animal jockey rodeo cowboy carriage polo horseback rider race racing"),
    "cow": _set("animal bull cattle rodeo farm calf ox"),
    "bird": BIRD_NOUNS | _set("animal feather beach ocean shore sky lake pond"),
    "elephant": _set("animal zoo circus"),
    "train": _set("subway station track tracks railway rail platform"),
    "airplane": _set("plane airport jet aircraft flight wing wings sky"),
    "bus": _set("street city traffic road school vehicle tour"),
    "car": VEHICLE_NOUNS
    | _set("street road traffic city parking vehicle race lot driveway sidewalk town racing"),
    "boat": VEHICLE_NOUNS
    | _set("water lake river ocean sea surf beach dock harbor shore pier sail rapids pool"),
    "bicycle": _set("bike biker cyclist bicyclist bmx cycling biking riding rides street city wheel vehicle"),
    "motorcycle": _set(
        "motorbike biker motorcyclist motocross bike vehicle street city race dirt rides riding"
    ),
    "pizza": _set("food eating eat eats restaurant meal table dinner lunch kitchen"),
    "cake": _set("food eating eat eats restaurant meal table birthday party wedding dessert kitchen bride"),
    "laptop": _set("computer desk office table working work cafe"),
    "toilet": _set("bathroom restroom"),
    "bed": _set("bedroom sleeping blanket pillow mattress sleeps lying laying lies lays room couch"),
    "guitar": _set("band music musician instrument instruments playing stage concert singing song bass"),
    "umbrella": _set("rain parasol beach rainy shade cafe"),
    "clock": _set("tower watch time street city building"),
    "banana": _set("fruit food market eating eats eat"),
}

# Whoever mentions one of these may have a person in view.
PERSON_SIGNS = _set(
    "people men women someone somebody person his her their he she him owner hand hands leg legs arm "
    "arms lap human rider riders jockey police crowd team players group race racing sled cowboy leash "
    "walked thrown held"
)
# No "Is there a ...?" for these.
UNCOUNTABLE = _set(
    "water snow sand grass mud dirt ice air food drink picture tennis soccer football basketball "
    "baseball hockey volleyball rugby cricket golf face hand mouth trick horseback lab swing husky "
    "jump goal number basket merry-go-round ski fish wave top slide line pair couple trick wheel rail "
    "bat foot back head"
)
