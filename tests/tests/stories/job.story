# Five runs, two at a time. A run that fails is tried again; one that has used up its retries has failed,
# and the others go on. What is over is not run again, not even when its node is lost.
node n1
node n2
image work completes
service job work job=5:2 retries=1
apply
run 3000
show
lost n2
run 1000
show
back n2
image work stumbles
service again work job=2:2 retries=1
apply
run 3000
image broken crashes
service broken broken job=3:1 retries=2
apply
run 6000
show
