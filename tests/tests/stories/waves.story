# A canary, half of those that can be reached, and the rest; one canary is away and follows.
node n1 ring=canary
node n2 ring=canary
node n3
node n4
node n5
node n6
service sensor sensor:1 global parallelism=0 monitor=1000 waves=ring:canary,50%
apply
run 1000
away n2
image sensor:2 slow
service sensor sensor:2 global parallelism=0 monitor=1000 waves=ring:canary,50%
apply
run 61000
back n2
run 180000
show
