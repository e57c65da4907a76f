"""What words say about a fine type: readable rules for weak labelling, all conditional on the gold 4-type.

Three tables of `(pattern, types)`. Within a table every pattern that matches votes, and a pattern's vote is shared by
its types (`"a b:2"` gives b twice a's share). Definitions follow FMNERG as its release uses them: holidays and galas are
festivals, prize shows are awards, television personalities are actors, photographers, designers and models are
artists, restaurants and shops as places are entertainment places, squares are parks, a nation playing is a team.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from tools.labels import FINE_TO_COARSE4

Votes = dict[str, float]
"""Fine type -> weight; not normalised. Empty means: nothing known."""

NAMES_FILE = Path(__file__).parent / "data" / "fine_names.toml"

_Rule = tuple[re.Pattern[str], Votes]


def _table(rules: Mapping[str, Iterable[tuple[str, str]]]) -> dict[str, list[_Rule]]:
    """Compile `coarse -> [(types, pattern)]`; a type may carry `:share`."""
    compiled: dict[str, list[_Rule]] = {}
    for coarse, rows in rules.items():
        compiled[coarse] = []
        for types, pattern in rows:
            shares = {t.partition(":")[0]: float(t.partition(":")[2] or 1) for t in types.split()}
            if wrong := [t for t in shares if FINE_TO_COARSE4.get(t) != coarse]:
                raise ValueError(f"{wrong} are not types of {coarse}")
            total = sum(shares.values())
            votes = {t: share / total for t, share in shares.items()}
            compiled[coarse].append((re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE), votes))
    return compiled


HINTS = _table(
    {
        "PER": [
            (
                "musician",
                r"musicians?|singers?|rappers?|songwriters?|(?:solo|recording|hip[- ]hop|pop|music|k-?pop|country|r&b) (?:artists?|stars?|idols?)|"
                r"dj|djs|guitarists?|drummers?|bassists?|vocalists?|composers?|pianists?|violinists?|rock ?stars?|frontman|band members?|"
                r"members? of (?:the |a |an )?(?:\w+[ -]){0,4}(?:boy ?band|girl group|band|group|one direction|exo|bts)|conductor",
            ),
            ("artist musician:2", r"artists?|performers?|entertainers?"),
            (
                "actor:3 musician:2 artist",
                r"celebrit(?:y|ies)|stars?|public figures?|(?:media|internet) personalit(?:y|ies)",
            ),
            (
                "actor",
                r"actors?|actress(?:es)?|comedians?|movie stars?|film stars?|reality (?:tv |television )?(?:stars?|personalit(?:y|ies))|"
                r"tv personalit(?:y|ies)|television personalit(?:y|ies)|socialites?|cast members?",
            ),
            (
                "actor journalist",
                r"(?:tv |television |talk[- ]show |radio |show )?hosts?|presenters?|youtubers?|vloggers?",
            ),
            (
                "athlete",
                r"athletes?|players?|footballers?|quarterbacks?|pitchers?|goalkeepers?|goalies?|strikers?|midfielders?|defend(?:er|ers)|forwards?|"
                r"wrestlers?|boxers?|fighters?|golfers?|cricketers?|swimmers?|runners?|sprinters?|skaters?|gymnasts?|cyclists?|skiers?|surfers?|"
                r"drivers?|racers?|jockeys?|olympians?|batsm[ae]n|bowlers?|receivers?|linebackers?|running backs?|cornerbacks?|shortstops?|"
                r"outfielders?|marathoners?|snowboarders?|rookies?|sports? (?:person|figures?|stars?)|basketball|baseball|nba star",
            ),
            ("coach:4 athlete", r"coach(?:es)?|head coach|managers?"),
            (
                "politician",
                r"politicians?|presidents?|presidential|senators?|governors?|mayors?|prime ministers?|ministers?|congress(?:man|woman|men)|"
                r"political (?:figures?|leaders?)|first lady|secretary of state|(?:us|u\.s\.) secretary|secretary of \w+|chancellors?|"
                r"candidates?|representatives?|government officials?|diplomats?|ambassadors?|attorney general|royal(?:ty)?|queen|king|prince|princess|"
                r"dictators?|monarchs?|emperors?|mps?|councillors?|councilm[ae]n|aldermen|nominee|activists?|civil rights|revolutionar(?:y|ies)|police chief|"
                r"generals?|commanders?|military leaders?|judges?|justices?|sheriffs?",
            ),
            (
                "author",
                r"authors?|writers?|novelists?|poets?|playwrights?|bloggers?|screenwriters?|essayists?|columnists?",
            ),
            (
                "journalist",
                r"journalists?|reporters?|anchors?|correspondents?|broadcasters?|newscasters?|commentators?|editors?|columnists?|sportscasters?",
            ),
            ("director", r"directors?|filmmakers?|film-makers?|producers?|showrunners?"),
            (
                "artist",
                r"photographers?|painters?|illustrators?|sculptors?|designers?|models?|supermodels?|dancers?|ballerinas?|choreographers?|architects?|chefs?|"
                r"cartoonists?|animators?|muralists?|tattoo artists?|make-?up artists?|makeup|street artists?|graffiti|potters?|craftsm[ae]n|stylists?",
            ),
            (
                "businessman",
                r"business(?:man|woman|men|person|people)|entrepreneurs?|ceo|cfo|cto|coo|founders?|co-?founders?|owners?|executives?|investors?|"
                r"moguls?|billionaires?|magnates?|chairm[ae]n|company president|tycoons?|bankers?|commissioners?|general manager|vice president of",
            ),
            (
                "intellectual",
                r"scientists?|physicists?|professors?|academics?|scholars?|philosophers?|researchers?|economists?|historians?|doctors?|surgeons?|physicians?|"
                r"engineers?|astronauts?|inventors?|psychologists?|theologians?|religious (?:figures?|leaders?)|pope|cardinals?|bishops?|archbishops?|"
                r"priests?|pastors?|saints?|dr|educators?|principals?|teachers?|lawyers?|attorneys?|astronomers?|mathematicians?|experts?|speakers?|lecturers?|dentists?",
            ),
            (
                "character",
                r"characters?|fictional|superhero(?:es)?|villains?|cartoon|protagonists?|deit(?:y|ies)|mytholog(?:y|ical)|biblical|gods?|wizards?|mascots?",
            ),
            (
                "person_other",
                r"family members?|victims?|friends?|suspects?|students?|criminals?|prisoners?|shooters?|relatives?|mother|father|brother|sister|"
                r"wife|husband|daughter|son|child|baby|soldiers?|officers?|nurses?|patients?|terrorists?|murderers?|veterans?",
            ),
        ],
        "LOC": [
            (
                "city",
                r"city|cities|town|towns|capital|village|municipality|suburb|metropolitan|metropolis",
            ),
            ("country", r"country|countries|nations?|nationality|sovereign|kingdom|republic|ethnicity|demonym"),
            ("state", r"states?|province|county|u\.?s\.? state|territory|prefecture"),
            ("continent", r"continents?|continental"),
            (
                "location_other",
                r"regions?|islands?|rivers?|lakes?|mountains?|beach(?:es)?|oceans?|seas?|valley|planets?|neighborhoods?|neighbourhoods?|boroughs?|districts?|"
                r"bay|coast|desert|archipelago|waterfalls?|canyon|volcano|glacier|geographic(?:al)? (?:feature|area|region)|body of water|area|celestial|"
                r"natural|peninsula|landform|forest|harbor|reservoir|creek",
            ),
            (
                "park",
                r"parks?|garden|gardens|public square|square|plaza|nature reserve|national park|conservatory|trail",
            ),
            ("road", r"roads?|streets?|highways?|avenues?|motorway|boulevard|freeway|route|intersection|interstate"),
            (
                "building_other",
                r"buildings?|towers?|bridges?|airports?|stations?|hospitals?|palaces?|castles?|skyscrapers?|residences?|houses?|structures?|landmarks?|"
                r"hotels?|monuments?|prison|offices?|cemetery|memorial|wall|terminal|skyscraper|headquarters|factory",
            ),
            (
                "cultural_place",
                r"museums?|church(?:es)?|cathedrals?|galler(?:y|ies)|librar(?:y|ies)|temples?|mosques?|historic(?:al)? (?:site|place|landmark)|heritage|abbey|shrine|chapel",
            ),
            (
                "entertainment_place",
                r"restaurants?|bars?|pubs?|clubs?|nightclubs?|theat(?:er|re)s?|theme parks?|amusement parks?|venues?|zoos?|casinos?|stores?|shops?|malls?|"
                r"cafes?|café|bakery|attractions?|resorts?|cinema|concert hall|diner|brewery|aquarium|lounge|coffee",
            ),
            (
                "sports_facility",
                r"stadiums?|arenas?|ballparks?|fields?|courts?|racetracks?|speedways?|sports? (?:venue|facility|complex)|golf|gym|rink|pitch",
            ),
        ],
        "ORG": [
            (
                "sports_team",
                r"teams?|clubs?|franchises?|squads?|football club|soccer club|basketball|baseball|hockey|opponents?|rugby|football|soccer",
            ),
            (
                "sports_league:3 sports_team",
                r"leagues?|competition|tournament|governing body|conference|association football|championship|division",
            ),
            (
                "company",
                r"compan(?:y|ies)|corporations?|brands?|business(?:es)?|retailers?|manufacturers?|airlines?|stores?|studios?|shops?|startups?|"
                r"restaurants?|social media platform|platforms?|service providers?|firms?|banks?|label|record label|publishers?|designers?|developer|chain|fashion house|products?|hotel|websites?|agency",
            ),
            (
                "educational_institution",
                r"schools?|universit(?:y|ies)|colleges?|academ(?:y|ies)|educational|institutes?|kindergarten|alma mater|fraternity|sorority|department of \w+ at",
            ),
            (
                "band",
                r"bands?|music(?:al)? groups?|boy ?bands?|girl groups?|performing group|duo|orchestra|choir|rock group|pop group|hip[- ]hop group|k-?pop group|vocal group|idol group",
            ),
            (
                "government_agency",
                r"government(?:al)?|agenc(?:y|ies)|department|ministry|police|legislat(?:ive|ure)|court|administration|federal|parliament|congress|senate|"
                r"public service|city council|council|law enforcement|embassy|bureau|intelligence|space agency",
            ),
            (
                "news_agency",
                r"news|newspapers?|media|publications?|magazines?|broadcast(?:er|ers|ing)?|television (?:network|channel|station)|tv (?:network|channel|station)|"
                r"radio|journal|outlets?|network|channel|press|blog",
            ),
            (
                "political_party",
                r"political part(?:y|ies)|part(?:y|ies)|political (?:group|organization|movement)|conservative|democrats?|republicans?",
            ),
            (
                "social_organization",
                r"charit(?:y|ies)|non-?profits?|ngos?|foundations?|advocacy|communit(?:y|ies)|societ(?:y|ies)|associations?|unions?|movements?|fandoms?|fan ?base|fan group|humanitarian|activist group|social (?:group|organization)|volunteer|campaign|support group|youth",
            ),
            (
                "organization_other",
                r"military|army|navy|naval|marines?|air force|armed forces|terrorist (?:group|organization)|militant|extremist|international organization|intergovernmental|"
                r"religious (?:group|organization)|alliance|gang|troops|intergovernmental organization|insurgent|cult|regiment|squadron",
            ),
        ],
        "OTHER": [
            (
                "animal",
                r"animals?|dogs?|cats?|species|breeds?|birds?|pets?|horses?|fish|insects?|dinosaurs?|puppy|lion|bear",
            ),
            (
                "award",
                r"awards?|troph(?:y|ies)|prizes?|medals?|honou?rs?|award(?:s)? (?:show|ceremony)|awards show|achievement",
            ),
            (
                "medical_thing",
                r"diseases?|virus(?:es)?|medical|medic(?:ine|ation)s?|drugs?|illness(?:es)?|disorders?|conditions?|health|syndrome|outbreak|treatment|therap(?:y|ies)|infection",
            ),
            (
                "website:3 software",
                r"websites?|social media|social network(?:ing)?|platforms?|online|web ?site|search engine|video-sharing",
            ),
            (
                "ordinance",
                r"laws?|legislation|acts?|bills?|agreements?|treat(?:y|ies)|polic(?:y|ies)|constitution(?:al)?|amendments?|regulation|legal|ordinance|healthcare law|program",
            ),
            (
                "film_and_television_works",
                r"movies?|films?|tv|television|series|shows?|sitcom|drama|episodes?|anime|cartoons?|documentar(?:y|ies)|franchise|talk show|musical|broadway|play|animated|sequel|reality show",
            ),
            ("magazine", r"magazines?|publications?|newspapers?|journals?|periodical|comic books?"),
            (
                "music",
                r"songs?|albums?|singles?|music videos?|music|tracks?|lyrics?|soundtrack|anthem|mixtape|ep|hit|symphony|opera",
            ),
            (
                "written_work",
                r"books?|novels?|poems?|memoirs?|literature|literary|scriptures?|manga|short story|play by|biograph(?:y|ies)|comics?|manuscript|bible|book series",
            ),
            (
                "art_other",
                r"artworks?|paintings?|sculptures?|murals?|art|exhibitions?|portraits?|statues?|photograph|ballet|flag|symbol",
            ),
            (
                "festival",
                r"festivals?|holidays?|parade|carnival|gala|celebrations?|fashion week|fashion show|film festival|music festival|concerts?|observance|fair|comic con|convention",
            ),
            (
                "sports_event",
                r"tournaments?|championships?|competitions?|games? \d|sports? events?|sporting events?|league|olympics?|playoffs?|race|finals?|matches|match|world cup|"
                r"soccer|football|basketball|baseball|hockey|marathon|cup|super bowl|sports",
            ),
            (
                "event_other",
                r"conferences?|wars?|campaigns?|elections?|ceremony|shooting|attack|summit|hurricane|storm|natural disaster|tour|protest|incidents?|historical event|battle|webinar|workshop|movement|hashtag|debate|pageant",
            ),
            (
                "brand_name_products",
                r"brands?|cars?|automobiles?|phones?|smartphones?|devices?|shoes?|sneakers?|drinks?|beverages?|cand(?:y|ies)|snacks?|beers?|wines?|cosmetics?|vehicles?|watch(?:es)?|"
                r"clothing|fashion|console|tablet|toys?|products?|models?|motorcycle|chocolate|electronics?|perfume|luxury",
            ),
            (
                "game",
                r"video games?|board games?|mobile games?|computer games?|gaming|card games?|games? (?:series|franchise|title)|games?|role-playing",
            ),
            (
                "software",
                r"software|apps?|applications?|operating system|technolog(?:y|ies)|programming|services?|tools?|streaming|cloud|database|digital|plug-?in|algorithm|framework|computing|messaging",
            ),
            (
                "product_other",
                r"aircraft|airplanes?|ships?|weapons?|rockets?|spacecraft|satellites?|missiles?|trains?|dish(?:es)?|foods?|ingredients?|planes?|boats?|vessels?|objects?|tanks?|"
                r"guns?|instruments?|fighter jet|helicopters?|telescope|equipment|substance|materials?|meal|recipe|font",
            ),
        ],
    }
)
"""Occupation and kind words, as the recorded knowledge uses them in `(type)` and in its reasoning."""

SHAPES = _table(
    {
        "PER": [
            (
                "politician",
                r"president|senator|sen|gov|governor|mayor|congressman|rep|queen|king|prince|princess|duke|duchess|lord|pm|judge|justice|sheriff",
            ),
            (
                "intellectual",
                r"dr|prof|professor|rev|reverend|pope|cardinal|bishop|archbishop|father|pastor|saint|rabbi|imam",
            ),
            ("coach", r"coach"),
            ("musician", r"dj|lil|mc|\w* ?band"),
            ("athlete", r"\w+ (?:fc|nfl|nba)"),
        ],
        "LOC": [
            ("park", r"\w* ?park|gardens?|square|plaza|.*national forest|reserve|trail|common"),
            (
                "road",
                r"street|st|ave|avenue|road|rd|highway|hwy|blvd|boulevard|lane|motorway|freeway|expressway|parkway|drive",
            ),
            (
                "cultural_place",
                r".*museum|church|cathedral|library|gallery|temple|mosque|chapel|abbey|museo|shrine|synagogue|monastery|basilica",
            ),
            (
                "sports_facility",
                r"stadium|arena|ballpark|speedway|raceway|coliseum|fieldhouse|racecourse|golf club|\w+ field|gym|sports complex|speedway",
            ),
            (
                "entertainment_place",
                r"bar|pub|restaurant|cafe|grill|club|theat(?:er|re)|cinema|zoo|mall|casino|tavern|brewery|diner|kitchen|pizza|resort|studios?|lounge|disneyland|amphitheat(?:er|re)|nightclub|store|shop",
            ),
            (
                "building_other",
                r"airport|tower|bridge|station|hospital|house|palace|castle|hotel|hall|building|inn|courthouse|prison|jail|school|university|college|manor|embassy|terminal|centre|center|cemetery|church hall|hq",
            ),
            (
                "location_other",
                r"lake|river|islands?|isle|mountains?|mount|mt|beach|ocean|sea|valley|bay|coast|harbor|harbour|creek|canyon|falls|peninsula|desert|hills|gulf|crater|glacier|cove|caves?|forest|volcano|point",
            ),
            ("state", r"county|province|shire"),
            ("city", r"city|town|village"),
        ],
        "ORG": [
            (
                "educational_institution",
                r"universit\w*|univ|college|school|schools|academy|institute|high|elementary|ms|hs|isd|campus|middle school|high school|alumni|kindergarten|faculty|grad school|law school|polytechnic",
            ),
            (
                "sports_team",
                r"\w*fc|afc|united|athletic|baseball|softball|basketball|football|hockey|soccer|volleyball|lacrosse|wrestling|rugby|cricket|rowing|swimming|\w*_?(?:baseball|softball|hoops|mbb|wbb|fb|soccer|football|hockey)|team|team \w+",
            ),
            ("sports_league", r"league|liga|premiership|conference|ncaa|nba|nfl|mlb|nhl"),
            (
                "company",
                r"inc|ltd|llc|corp|corporation|company|co|group|holdings|bank|studios?|records|airlines|airways|motors|pharma|technologies|solutions|systems|realty|insurance|restaurant|bakery|cafe|entertainment|productions|labs?|capital|partners|hotel",
            ),
            ("band", r"band|orchestra|choir|quartet|ensemble|trio|philharmonic|symphony|boyz|singers|chorus"),
            (
                "news_agency",
                r"\w*news|times|tribune|gazette|herald|post|journal|radio|tv|fm|magazine|chronicle|daily|press|\w*abc\d+|\w*nbc\d+|\w*cbs\d+|\w*fox\d+|media|telegraph",
            ),
            (
                "government_agency",
                r"police|dept|department|ministry|agency|bureau|council|court|sheriff'?s?|parliament|commission|administration|pd|\w+pd|govt|government|senate|congress|embassy|fire dept|office|city of \w+|authority|congreso|federal|national \w+ service",
            ),
            ("political_party", r"party|republicans?|democrats?|democratic|gop|\w*dems|labour|tories|conservatives?"),
            (
                "social_organization",
                r"foundation|charity|society|association|assoc|union|club|trust|fund|alliance|rotary|ymca|ministries|volunteers?|friends of|chamber of commerce|coalition|network|women'?s|youth|relief|federation|committee",
            ),
            (
                "organization_other",
                r"army|navy|marines|air force|squadron|regiment|brigade|troops|battalion|corps|church|diocese|military|gang",
            ),
        ],
        "OTHER": [
            (
                "festival",
                r"\w*(?:festival|fest)|parade|carnival|\w+ day|eve|christmas|fashion week|gala|pride|comic ?con|fair|fayre|\w*con",
            ),
            (
                "award",
                r"\w*awards?\d*|prize|trophy|medal|oscars?|grammys?|emmys?|of the (?:year|month|week)|mvp|hall of fame",
            ),
            (
                "sports_event",
                r"cup|championships?|olympics?|\w*open|bowl|grand prix|gp|marathon|finals?|tournament|playoffs?|world series|games|classic|derby|races?|ufc ?\d+|league|invitational|triathlon|\d+k|relay|\d+m",
            ),
            (
                "film_and_television_works",
                r"show|the movie|tv|season \d+|episode|trailer|movie|film|channel|part [iv]+",
            ),
            ("magazine", r"\w*magazine|mag|journal|weekly"),
            ("written_work", r"book|novel|chronicles|diary|bible"),
            ("music", r"album|ep|remix|feat|ft|song|mixtape|lp|acoustic"),
            (
                "event_other",
                r"summit|conference|convention|war|tour|campaign|election|hurricane|storm|shooting|\w*chat|expo|week|march|challenge|workshop|concert|webinar|benefit|forum|protest",
            ),
            ("ordinance", r"act|bill|law|amendment|treaty|agreement|accord|constitution|resolution"),
            ("software", r"app|ios ?\d*|windows ?\d*|android|software|sdk|api|cloud|sql|os"),
            ("website", r"\w+\.(?:com|org|net|io|co)|\w*\.?com"),
            ("game", r"fifa ?\d+|2k\d+|gta ?\w*|pokemon \w+|game|simulator|battlefield ?\d*|madden ?\d*"),
            (
                "brand_name_products",
                r"iphone ?\w*|ipad ?\w*|galaxy \w+|\w+ edition|gt\w?|coupe|sedan|turbo|amg|shoes|sneakers|lipstick",
            ),
            ("medical_thing", r"cancer|disease|syndrome|virus|vaccine|therapy|surgery|\w+itis|\w+oma"),
            (
                "product_other",
                r"rocket|rover|telescope|missile|uss|hms|satellite|helicopter|boeing|airbus|pizza|bbq|burger|cheesecake|salad|soup|taco|pasta|chicken|cake|sandwich|curry",
            ),
        ],
    }
)
"""Words inside the mention itself, which name its kind: `Lake Erie`, `BYU Football`, `Hay Festival`."""

CONTEXTS = _table(
    {
        "PER": [
            (
                "athlete",
                r"nba|nfl|mlb|nhl|goals?|scored?|striker|touchdown|td|wins?|vs|playoffs?|draft|rookie|quarterback|qb|pts|rebounds|assists?|injury|transfer|ufc|olympi\w+|match|pitch\w*|homer|home run|innings?|champ\w*|hat-?trick|dunk|espn\w*|finals",
            ),
            (
                "musician",
                r"album|song|songs|concert|tour|single|music|lyrics?|remix|ft|feat|singing|performs?|performing|live at|mixtape|listen\w*|vinyl|band|spotify|itunes|rapper|grammys?|vevo|fans|stage",
            ),
            (
                "politician",
                r"president\w*|gop|election\w*|vote\w*|campaign|senat\w+|congress\w*|democrats?|republicans?|debate|policy|minister|parliament|poll|polls|governor|mayor|speech|tcot|imwithher|maga|immigration|white house|govt|government|trump2016",
            ),
            (
                "actor",
                r"movie|film|films|actor|actress|starring|stars in|cast|role|premiere|trailer|scenes?|netflix|hollywood|red carpet|tv|series|season|comedy|oscars?",
            ),
            ("author", r"book|books|novel|author|wrote|poems?|poet|poetry|writer|reading|quotes?"),
            (
                "artist",
                r"photo by|photographer|photography|photographed|painting|paintings|art|artist|artwork|exhibition|model|fashion|vogue|runway|designer|dress|ballet|dancer|gallery|sculpture",
            ),
            ("businessman", r"ceo|founder|startup|entrepreneur|company|business|billionaire|investor"),
            ("coach", r"coach|manager|sacked"),
            ("director", r"directed|director|directing|filmmaker"),
            ("intellectual", r"scientist|professor|phd|physics|research|lecture|philosoph\w+|keynote|dr|university"),
            ("journalist", r"interview\w*|reporter|journalist|anchor|column"),
            ("character", r"cosplay|fan ?art|comic|marvel|disney|episode|wizard|villain|superhero"),
        ],
        "LOC": [
            ("city", r"weather|flights?|live in|downtown|hiring|jobs?"),
            ("sports_facility", r"stadium|game|match|fans|vs"),
        ],
        "ORG": [
            (
                "sports_team",
                r"nba|nfl|mlb|nhl|vs|win|wins|won|beat|beats|game|games|season|fans|playoffs?|score\w*|coach|draft|match|player|players|team|finals|transfer|league|lead|inning|title|champions?",
            ),
            ("company", r"ceo|buy|store|shares|stock|new product|launch\w*|customers?|sale|deal|brand|tech"),
            ("band", r"album|song|concert|tour|band|singing|fans|music|gig|setlist|live at"),
            (
                "educational_institution",
                r"students?|campus|graduat\w+|class of|teachers?|principal|alumni|degree|grads?|prom|homecoming",
            ),
            ("political_party", r"vote|voters|election|candidate|nominee|senator|convention|debate|mps?"),
            ("government_agency", r"investigat\w+|officers?|federal|bill|law|policy|officials?|arrest\w*"),
            ("news_agency", r"via|report\w*|breaking|headline|interview"),
        ],
        "OTHER": [
            (
                "film_and_television_works",
                r"movie|film|watch\w*|season|episode|trailer|cast|premiere|starring|netflix|scenes?|tv|series",
            ),
            ("music", r"album|song|listen\w*|lyrics|single|music video|itunes|spotify|track|remix|acoustic"),
            ("festival", r"lineup|line-up|celebrat\w+|tickets|parade|happy|weekend|headlin\w+"),
            ("award", r"winner|nominat\w+|wins|award\w*|best|congrat\w*"),
            ("sports_event", r"vs|qualif\w+|champions?|final|finals|goal|team|teams|match|win"),
            ("game", r"gaming|gamer|xbox|ps4|playing|gameplay|level|players"),
            ("brand_name_products", r"sale|buy|wear\w*|car|shoes|drink\w*|new color|style"),
            ("written_work", r"book|read|reading|chapter|author|novel"),
            ("software", r"download|app|update|cloud|data|developers?|install"),
            ("website", r"follow|account|post|posted|tweet|profile|link|like us|add me|story"),
        ],
    }
)
"""Words of the post around the mention; weak, they only tip the balance."""


def votes_for(table: Mapping[str, list[_Rule]], coarse: str, text: str) -> Votes:
    """Sum of the votes of all of `table`'s rules for `coarse` that occur in `text`."""
    votes: Votes = {}
    for pattern, shares in table[coarse]:
        if pattern.search(text):
            for fine, share in shares.items():
                votes[fine] = votes.get(fine, 0.0) + share
    return votes


def name_key(name: str) -> str:
    """The spelling by which names are compared: letters and digits alone, lower case, no leading `the`."""
    words = [w for w in re.split(r"[\W_]+", name.lower()) if w]
    return "".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


@lru_cache(maxsize=1)
def known_names() -> Mapping[str, tuple[str, ...]]:
    """`name_key` -> the fine types that the curated file lists the name under."""
    with NAMES_FILE.open("rb") as file:
        groups = tomllib.load(file)
    names: dict[str, tuple[str, ...]] = {}
    for types in groups.values():
        for fine, listing in types.items():
            for key in {name_key(name) for name in listing.split(",")} - {""}:
                names[key] = (*names.get(key, ()), fine)
    return names


def listed_types(coarse: str, name: str) -> Votes:
    """The curated file's types for `name` that are children of `coarse`, each an equal share."""
    fines = [f for f in known_names().get(name_key(name), ()) if FINE_TO_COARSE4[f] == coarse]
    return {fine: 1 / len(fines) for fine in fines}
